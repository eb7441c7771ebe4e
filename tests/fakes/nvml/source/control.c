/* What the tests do to a machine, called through ctypes by machine.py. Not part of NVML. */
#include "control.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MAGIC = 0x74616e67 };

EXPORT int fake_model(const char *name)
{
    for (uint32_t n = 0; n < MODEL_COUNT; n++)
        if (strcmp(MODELS[n].name, name) == 0)
            return (int)n;
    return -1;
}

EXPORT uint32_t fake_vgpu_type(int model, const char *name)
{
    for (uint32_t n = 0; n < MODELS[model].vgpu_type_count; n++)
        if (strcmp(MODELS[model].vgpu_types[n].name, name) == 0)
            return MODELS[model].vgpu_types[n].id;
    return 0;
}

EXPORT int fake_create(const char *path, const char *driver_version)
{
    int file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file < 0 || ftruncate(file, sizeof(struct machine)) != 0)
        return -1;
    close(file);
    struct machine *made = machine_map(path);
    if (made == NULL)
        return -1;
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&made->lock, &attributes);
    made->privilege = PRIVILEGE_CONFIG;
    made->logging = 1;
    made->size = sizeof *made;
    made->magic = MAGIC;
    snprintf(made->driver_version, sizeof made->driver_version, "%s", driver_version);
    return 0;
}

EXPORT struct machine *fake_open(const char *path)
{
    struct machine *found = machine_map(path);
    bool ours = found != NULL && found->magic == MAGIC && found->size == sizeof *found;
    return ours ? found : NULL;
}

EXPORT void fake_close(struct machine *of)
{
    machine_unmap(of);
}

/* Those that have been killed hold nothing: the kernel has closed their files. */
EXPORT uint32_t fake_holders(struct machine *of, int32_t into[MAX_HOLDERS])
{
    WITH(of);
    uint32_t count = 0;
    for (uint32_t n = 0; n < MAX_HOLDERS; n++) {
        int32_t pid = machine->holders[n];
        if (pid != 0 && kill(pid, 0) != 0 && errno == ESRCH)
            machine->holders[n] = pid = 0;
        if (pid != 0)
            into[count++] = pid;
    }
    return count;
}

EXPORT int fake_add_gpu(struct machine *of, int model, const char *uuid, uint32_t domain,
                        uint32_t bus, uint32_t numa_node, int mig_capable, int mig_enabled,
                        int virtualization)
{
    WITH(of);
    if (WORLD->gpu_count == MAX_GPUS)
        return -1;
    struct gpu *gpu = &WORLD->gpus[WORLD->gpu_count];
    gpu->model = (uint32_t)model;
    gpu->domain = domain;
    gpu->bus = bus;
    gpu->numa_node = numa_node;
    gpu->mig_capable = mig_capable != 0;
    gpu->mig_current = gpu->mig_pending = mig_capable && mig_enabled;
    gpu->virtualization = (uint32_t)virtualization;
    gpu->epoch = ++WORLD->generation;
    snprintf(gpu->uuid, sizeof gpu->uuid, "%s", uuid);
    return (int)WORLD->gpu_count++;
}

EXPORT int fake_create_gi(struct machine *of, uint32_t gpu, uint32_t profile_id, uint32_t start,
                          uint32_t size, uint32_t *gi)
{
    WITH(of);
    if (gpu >= WORLD->gpu_count)
        return INVALID_ARGUMENT;
    return WORLD->gpus[gpu].mig_current ? gi_create(gpu, profile_id, start, size, gi)
                                        : NOT_SUPPORTED;
}

static struct gpu_instance *live_gi(uint32_t gpu, uint32_t gi)
{
    if (gpu >= WORLD->gpu_count || gi >= MAX_GIS || !WORLD->gpus[gpu].gi[gi].live)
        return NULL;
    return &WORLD->gpus[gpu].gi[gi];
}

EXPORT int fake_destroy_gi(struct machine *of, uint32_t gpu, uint32_t gi)
{
    WITH(of);
    return live_gi(gpu, gi) ? gi_destroy(gpu, gi) : NOT_FOUND;
}

EXPORT int fake_create_ci(struct machine *of, uint32_t gpu, uint32_t gi, uint32_t profile,
                          uint32_t *ci)
{
    WITH(of);
    return live_gi(gpu, gi) ? ci_create(gpu, gi, profile, -1, ci) : NOT_FOUND;
}

EXPORT int fake_destroy_ci(struct machine *of, uint32_t gpu, uint32_t gi, uint32_t ci)
{
    WITH(of);
    const struct gpu_instance *found = live_gi(gpu, gi);
    if (found == NULL || ci >= MAX_CIS || !found->ci[ci].live)
        return NOT_FOUND;
    return ci_destroy(gpu, gi, ci);
}

EXPORT void fake_mig_uuid(struct machine *of, uint32_t gpu, uint32_t gi, uint32_t ci,
                          char text[NAME_SIZE])
{
    WITH(of);
    mig_uuid(gpu, gi, ci, text);
}

/* All that a GPU holds, as of one moment. An entry is a GPU instance and what is in it. */
struct entry {
    uint32_t gi, profile_id, start, size, in_use, ci_count;
    uint32_t ci[MAX_CIS][4]; /* id, profile, start, size */
};

EXPORT int fake_read(struct machine *of, uint32_t gpu, struct entry into[MAX_GIS])
{
    WITH(of);
    int count = 0;
    for (uint32_t n = 0; n < MAX_GIS; n++) {
        const struct gpu_instance *gi = live_gi(gpu, n);
        if (gi == NULL)
            continue;
        struct entry *entry = &into[count++];
        *entry = (struct entry){
            n, gi->profile_id, gi->start, gi->size, gi_in_use(gpu, n), 0, {{0}}};
        for (uint32_t id = 0; id < MAX_CIS; id++) {
            const struct compute_instance *ci = &gi->ci[id];
            uint32_t values[4] = {id, ci->profile, ci->start, ci->size};
            if (ci->live)
                memcpy(entry->ci[entry->ci_count++], values, sizeof values);
        }
    }
    return count;
}

/* A client of gi 0 uses the GPU as a whole: a profiler, DCGM, a process without MIG. */
EXPORT int fake_open_client(struct machine *of, uint32_t gpu, uint32_t gi, const char *name,
                            int listed)
{
    WITH(of);
    if (gpu >= WORLD->gpu_count || (gi != 0 && !live_gi(gpu, gi)))
        return NOT_FOUND;
    if (WORLD->gpus[gpu].lost)
        return GPU_IS_LOST;
    for (uint32_t n = 0; n < MAX_CLIENTS; n++) {
        struct client *client = &WORLD->clients[n];
        if (client->live)
            continue;
        *client = (struct client){0, gpu, gi, listed != 0, ""};
        snprintf(client->name, sizeof client->name, "%s", name);
        client->live = 1;
        return SUCCESS;
    }
    return INSUFFICIENT_RESOURCES;
}

EXPORT void fake_close_client(struct machine *of, const char *name)
{
    WITH(of);
    for (uint32_t n = 0; n < MAX_CLIENTS; n++)
        if (strcmp(WORLD->clients[n].name, name) == 0)
            WORLD->clients[n].live = 0;
}

/* Returns NVML's id of the vGPU, or 0 if the GPU instance has no seat for that type. */
EXPORT uint32_t fake_start_vgpu(struct machine *of, uint32_t gpu, uint32_t gi, uint32_t type,
                                const char *uuid)
{
    WITH(of);
    const struct gpu_instance *found = live_gi(gpu, gi);
    const struct vgpu_type *wanted = vgpu_type_by_id(type, NULL);
    if (found == NULL || wanted == NULL || found->profile_id != wanted->profile_id)
        return 0;
    uint32_t taken = 0, unused = MAX_VGPUS;
    for (uint32_t n = 0; n < MAX_VGPUS; n++) {
        const struct vgpu *vgpu = &WORLD->vgpus[n];
        taken += vgpu->live && vgpu->gpu == gpu && vgpu->gi == gi;
        if (!vgpu->live && unused == MAX_VGPUS)
            unused = n;
    }
    if (taken >= wanted->max_per_instance || unused == MAX_VGPUS)
        return 0;
    struct vgpu *vgpu = &WORLD->vgpus[unused];
    *vgpu = (struct vgpu){.gpu = gpu, .gi = gi, .type = type, .opened = 1};
    snprintf(vgpu->uuid, sizeof vgpu->uuid, "%s", uuid);
    vgpu->live = 1;
    return unused + 1;
}

EXPORT void fake_stop_vgpu(struct machine *of, uint32_t id)
{
    WITH(of);
    if (id - 1u < MAX_VGPUS)
        WORLD->vgpus[id - 1u].live = 0;
}

enum attribute {
    LOST,
    RECOVERY_ACTION,
    RETIRED_PENDING,
    REMAPPED,         /* and the three after it */
    ECC = REMAPPED + 4, /* and the one after it */
    VIRTUALIZATION = ECC + 2,
    MIG_MODE,
};

EXPORT void fake_set(struct machine *of, uint32_t gpu, uint32_t attribute, uint64_t value)
{
    WITH(of);
    struct gpu *set = &WORLD->gpus[gpu];
    if (attribute == LOST)
        set->lost = value != 0;
    else if (attribute == RECOVERY_ACTION)
        set->recovery_action = (uint32_t)value;
    else if (attribute == RETIRED_PENDING)
        set->retired_pending = value != 0;
    else if (attribute < ECC)
        set->remapped[attribute - REMAPPED] = (uint32_t)value;
    else if (attribute < VIRTUALIZATION)
        set->ecc[attribute - ECC] = value;
    else if (attribute == VIRTUALIZATION)
        set->virtualization = (uint32_t)value;
    else
        set->mig_current = set->mig_pending = value != 0;
}

EXPORT void fake_privilege(struct machine *of, uint32_t privilege)
{
    WITH(of);
    machine->privilege = privilege;
}

EXPORT void fake_logging(struct machine *of, int on)
{
    WITH(of);
    machine->logging = on != 0;
}

EXPORT int fake_mig_mode(struct machine *of, uint32_t gpu)
{
    WITH(of);
    return (int)(WORLD->gpus[gpu].mig_current | WORLD->gpus[gpu].mig_pending << 1);
}

EXPORT void fake_emit(struct machine *of, uint32_t gpu, uint64_t type, uint64_t data, uint32_t gi,
                      uint32_t ci)
{
    WITH(of);
    emit(gpu, type, data, gi, ci);
}

/* A reset brings the pending MIG mode into force and ends all that the GPU held. */
static void reset(uint32_t gpu)
{
    struct gpu *found = &WORLD->gpus[gpu];
    found->mig_current = found->mig_pending;
    found->lost = found->recovery_action = found->retired_pending = 0;
    memset(found->remapped + 2, 0, 2 * sizeof *found->remapped);
    memset(found->ecc, 0, sizeof found->ecc);
    gpu_clear(gpu);
}

EXPORT void fake_reset(struct machine *of, uint32_t gpu)
{
    WITH(of);
    emit(gpu, EVENT_MIG_CONFIG_CHANGE, 0, WHOLE_GPU, WHOLE_GPU);
    reset(gpu);
}

EXPORT void fake_reboot(struct machine *of)
{
    WITH(of);
    for (uint32_t gpu = 0; gpu < WORLD->gpu_count; gpu++) {
        reset(gpu);
        WORLD->gpus[gpu].functions = 0;
    }
}

EXPORT int fake_fault(struct machine *of, const char *symbol, uint32_t kind, int32_t gpu,
                      uint32_t skip, uint32_t count, uint32_t code, uint32_t milliseconds)
{
    WITH(of);
    for (uint32_t n = 0; n < MAX_FAULTS; n++) {
        struct fault *fault = &machine->faults[n];
        if (fault->kind != FAULT_NONE)
            continue;
        *fault = (struct fault){FAULT_NONE, skip, count, code, milliseconds, gpu, ""};
        snprintf(fault->symbol, sizeof fault->symbol, "%s", symbol);
        fault->kind = kind;
        return 0;
    }
    return -1;
}

/* Also wakes whoever hangs. */
EXPORT void fake_clear_faults(struct machine *of)
{
    WITH(of);
    memset(machine->faults, 0, sizeof machine->faults);
    __atomic_add_fetch(&machine->releases, 1, __ATOMIC_SEQ_CST);
}
