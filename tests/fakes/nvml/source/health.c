/* Whether a GPU is well, and the events that say when it is not. */
#include "fake.h"

#include <string.h>

static bool has_gpu_instances(const struct gpu *gpu)
{
    for (uint32_t gi = 0; gi < MAX_GIS; gi++)
        if (gpu->gi[gi].live)
            return true;
    return false;
}

EXPORT int nvmlDeviceGetRemappedRows(handle_t device, uint32_t *corrected, uint32_t *uncorrected,
                                     uint32_t *pending, uint32_t *failed)
{
    CALL(GPU_OF(device), "gpu=%u", GPU_OF(device));
    USE_GPU(device);
    REFUSE_IF(!corrected || !uncorrected || !pending || !failed, INVALID_ARGUMENT);
    REFUSE_IF(has_gpu_instances(gpu), NOT_SUPPORTED);
    *corrected = gpu->remapped[0];
    *uncorrected = gpu->remapped[1];
    *pending = gpu->remapped[2] != 0;
    *failed = gpu->remapped[3] != 0;
    RETURN(SUCCESS);
}

EXPORT int nvmlDeviceGetRetiredPagesPendingStatus(handle_t device, uint32_t *pending)
{
    CALL(GPU_OF(device), "gpu=%u", GPU_OF(device));
    USE_GPU(device);
    REFUSE_IF(pending == NULL, INVALID_ARGUMENT);
    *pending = gpu->retired_pending;
    RETURN(SUCCESS);
}

EXPORT int nvmlDeviceGetEccMode(handle_t device, uint32_t *current, uint32_t *pending)
{
    CALL(GPU_OF(device), "gpu=%u", GPU_OF(device));
    USE_GPU(device);
    (void)gpu;
    REFUSE_IF(current == NULL || pending == NULL, INVALID_ARGUMENT);
    *current = *pending = 1;
    RETURN(SUCCESS);
}

EXPORT int nvmlDeviceGetTotalEccErrors(handle_t device, uint32_t type, uint32_t counter,
                                       uint64_t *count)
{
    CALL(GPU_OF(device), "gpu=%u type=%u counter=%u", GPU_OF(device), type, counter);
    USE_GPU(device);
    REFUSE_IF(count == NULL || type > 1 || counter > 1, INVALID_ARGUMENT);
    *count = gpu->ecc[type];
    RETURN(SUCCESS);
}

struct field_value {
    uint32_t field, scope;
    int64_t timestamp, latency;
    uint32_t type, code;
    uint64_t value;
};
enum { RESETLESS_MIG = 184, INDEPENDENT_MIG_QUERY = 199, RECOVERY_ACTION = 230, UNSIGNED_INT = 1 };

/* The call succeeds even where a field does not: each has its own code. */
EXPORT int nvmlDeviceGetFieldValues(handle_t device, int count, struct field_value *values)
{
    CALL(GPU_OF(device), "gpu=%u fields=%d", GPU_OF(device), count);
    USE_GPU(device);
    REFUSE_IF(values == NULL || count <= 0, INVALID_ARGUMENT);
    for (int n = 0; n < count; n++) {
        struct field_value *value = &values[n];
        value->type = UNSIGNED_INT;
        value->code = SUCCESS;
        value->value = 0;
        if (value->field == RESETLESS_MIG || value->field == INDEPENDENT_MIG_QUERY)
            value->value = model_of(gpu)->architecture >= 9;
        else if (value->field == RECOVERY_ACTION)
            value->value = gpu->recovery_action;
        else
            value->code = NOT_SUPPORTED;
    }
    RETURN(SUCCESS);
}

/* ------------------------------------------------------------------ events */

enum { MAX_SETS = 256, SUPPORTED_EVENTS = 0x1 | 0x2 | EVENT_XID | EVENT_MIG_CONFIG_CHANGE | 0xfc00 };

/* Event sets belong to the process: registered types per GPU, and how far it has read. A reset ends
 * what was registered before, as it makes handles stale: `epochs` are those of registration. */
static struct event_set {
    bool used;
    uint64_t types[MAX_GPUS], read;
    uint32_t epochs[MAX_GPUS];
} sets[MAX_SETS];

void forget_event_sets(void)
{
    memset(sets, 0, sizeof sets);
}

static struct event_set *find_set(handle_t set)
{
    if (KIND(set) != EVENT_SET || GENERATION(set) >= MAX_SETS || !sets[GENERATION(set)].used)
        return NULL;
    return &sets[GENERATION(set)];
}

EXPORT int nvmlEventSetCreate(handle_t *set)
{
    CALL(-1, "%s", "");
    REFUSE_IF(set == NULL, INVALID_ARGUMENT);
    for (uint32_t n = 0; n < MAX_SETS; n++)
        if (!sets[n].used) {
            memset(&sets[n], 0, sizeof sets[n]);
            sets[n].used = true;
            sets[n].read = WORLD->event_count;
            *set = handle(EVENT_SET, 0, 0, 0, n);
            RETURN(SUCCESS);
        }
    RETURN(UNKNOWN_ERROR);
}

EXPORT int nvmlEventSetFree(handle_t set)
{
    CALL(-1, "%s", "");
    struct event_set *freed = find_set(set);
    REFUSE_IF(freed == NULL, INVALID_ARGUMENT);
    freed->used = false;
    RETURN(SUCCESS);
}

EXPORT int nvmlDeviceGetSupportedEventTypes(handle_t device, uint64_t *types)
{
    CALL(GPU_OF(device), "gpu=%u", GPU_OF(device));
    USE_GPU(device);
    (void)gpu;
    REFUSE_IF(types == NULL, INVALID_ARGUMENT);
    *types = SUPPORTED_EVENTS;
    RETURN(SUCCESS);
}

EXPORT int nvmlDeviceRegisterEvents(handle_t device, uint64_t types, handle_t set)
{
    CALL(GPU_OF(device), "gpu=%u types=%llx", GPU_OF(device), (unsigned long long)types);
    USE_GPU(device);
    struct event_set *registered = find_set(set);
    REFUSE_IF(registered == NULL, INVALID_ARGUMENT);
    REFUSE_IF(types & ~(uint64_t)SUPPORTED_EVENTS, NOT_SUPPORTED);
    registered->types[gpu_index(gpu)] |= types;
    registered->epochs[gpu_index(gpu)] = gpu->epoch;
    RETURN(SUCCESS);
}

struct event_data {
    handle_t device;
    uint64_t type, data;
    uint32_t gi, ci;
};

static bool next_event(struct event_set *set, struct event_data *data)
{
    if (WORLD->event_count > set->read + MAX_EVENTS)
        set->read = WORLD->event_count - MAX_EVENTS;
    while (set->read < WORLD->event_count) {
        const struct event *event = &WORLD->events[set->read++ % MAX_EVENTS];
        if (set->types[event->gpu] & event->type && set->epochs[event->gpu] == event->epoch) {
            *data = (struct event_data){
                device_handle(event->gpu), event->type, event->data, event->gi, event->ci};
            return true;
        }
    }
    return false;
}

EXPORT int nvmlEventSetWait_v2(handle_t set, struct event_data *data, uint32_t milliseconds)
{
    CALL(-1, "ms=%u", milliseconds);
    struct event_set *waiting = find_set(set);
    REFUSE_IF(waiting == NULL || data == NULL, INVALID_ARGUMENT);
    for (uint32_t waited = 0;; waited++) {
        for (uint32_t gpu = 0; gpu < WORLD->gpu_count; gpu++)
            REFUSE_IF(waiting->types[gpu] && WORLD->gpus[gpu].lost, GPU_IS_LOST);
        if (next_event(waiting, data))
            RETURN(SUCCESS);
        if (waited >= milliseconds)
            RETURN(TIMEOUT);
        machine_unlock();
        machine_pause(1); /* polling: a futex would save little and outlive no killed process */
        machine_lock();
    }
}
