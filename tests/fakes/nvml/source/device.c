/* The library itself, and what identifies a GPU. */
#include "fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ------------------------------------------------------------------ the library */

static struct machine *opened;
static uint32_t references; /* nvmlInit and nvmlShutdown count */
static uint32_t inside;     /* calls under way: a hanging one may outlive nvmlShutdown */
static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;

struct machine *nvml_machine_enter(void)
{
    pthread_mutex_lock(&opening);
    struct machine *found = opened;
    inside += found != NULL;
    pthread_mutex_unlock(&opening);
    return found;
}

void nvml_machine_leave(void)
{
    pthread_mutex_lock(&opening);
    inside--;
    pthread_mutex_unlock(&opening);
}

/* An open NVML has every GPU's device file open: the kernel driver counts who has. */
static void hold(bool on)
{
    int32_t from = on ? 0 : (int32_t)getpid(), to = on ? (int32_t)getpid() : 0;
    machine = opened;
    machine_lock();
    for (uint32_t n = 0; n < MAX_HOLDERS; n++)
        if (machine->holders[n] == from) {
            machine->holders[n] = to;
            break;
        }
    machine_unlock();
}

static void close_nvml(void)
{
    pthread_mutex_lock(&opening);
    if (references > 0 && --references == 0) {
        hold(false);
        if (inside == 0)
            machine_unmap(opened);
        opened = NULL;
        forget_event_sets();
    }
    pthread_mutex_unlock(&opening);
}

/* References are the process's and not the machine's, so leave() cannot take them back. */
static bool took_place(const struct call *call, int code)
{
    return call->kind == FAULT_DONE_BUT_ERROR || (code == SUCCESS && call->kind != FAULT_NOT_DONE);
}

/* Each first nvmlInit looks at the environment again, so a test may move on to another machine. */
EXPORT int nvmlInitWithFlags(uint32_t flags)
{
    pthread_mutex_lock(&opening);
    const char *path = getenv("TANGRAM_FAKE_NVML_STATE");
    if (references == 0 && path != NULL)
        opened = machine_map(path);
    bool found = opened != NULL;
    if (found && references++ == 0)
        hold(true);
    pthread_mutex_unlock(&opening);
    if (!found)
        return DRIVER_NOT_LOADED;
    struct call call;
    int code = enter(&call, __func__, -1, "flags=%u", flags);
    if (code == SUCCESS)
        code = leave(&call, SUCCESS);
    if (!took_place(&call, code))
        close_nvml();
    return code;
}

EXPORT int nvmlInit_v2(void)
{
    return nvmlInitWithFlags(0);
}

EXPORT int nvmlShutdown(void)
{
    CALL(-1, "%s", "");
    int code = leave(&call, SUCCESS);
    if (took_place(&call, code))
        close_nvml();
    return code;
}

EXPORT const char *nvmlErrorString(int code)
{
    switch (code) {
    case SUCCESS: return "The operation was successful";
    case UNINITIALIZED: return "NVML was not first initialized with nvmlInit()";
    case INVALID_ARGUMENT: return "A supplied argument is invalid";
    case NOT_SUPPORTED: return "The requested operation is not available on the target device";
    case NO_PERMISSION: return "The current user does not have permission for operation";
    case NOT_FOUND: return "A query to find an object was unsuccessful";
    case INSUFFICIENT_SIZE: return "An input argument is not large enough";
    case DRIVER_NOT_LOADED: return "NVIDIA driver is not loaded";
    case TIMEOUT: return "User provided timeout passed";
    case GPU_IS_LOST: return "The GPU has fallen off the bus or has otherwise become inaccessible";
    case RESET_REQUIRED: return "The GPU requires a reset before it can be used again";
    case IN_USE: return "In use by another client";
    case INSUFFICIENT_RESOURCES: return "Insufficient resources";
    default: return "Unknown Error";
    }
}

EXPORT int nvmlSystemGetDriverVersion(char *version, uint32_t length)
{
    CALL(-1, "%s", "");
    RETURN(copy_string(version, length, machine->driver_version));
}

EXPORT int nvmlSystemGetNVMLVersion(char *version, uint32_t length)
{
    CALL(-1, "%s", "");
    char text[96];
    snprintf(text, sizeof text, "13.%s", machine->driver_version);
    RETURN(copy_string(version, length, text));
}

EXPORT int nvmlSystemGetCudaDriverVersion_v2(int *version)
{
    CALL(-1, "%s", "");
    REFUSE_IF(version == NULL, INVALID_ARGUMENT);
    *version = 13000;
    RETURN(SUCCESS);
}

/* ------------------------------------------------------------------ finding a device */

EXPORT int nvmlDeviceGetCount_v2(uint32_t *count)
{
    CALL(-1, "%s", "");
    REFUSE_IF(count == NULL, INVALID_ARGUMENT);
    *count = WORLD->gpu_count;
    RETURN(SUCCESS);
}

static int found(struct call *call, uint32_t gpu, handle_t *device)
{
    if (WORLD->gpus[gpu].lost)
        return leave(call, GPU_IS_LOST);
    *device = device_handle(gpu);
    return leave(call, SUCCESS);
}

EXPORT int nvmlDeviceGetHandleByIndex_v2(uint32_t index, handle_t *device)
{
    CALL(index, "gpu=%u", index);
    REFUSE_IF(device == NULL || index >= WORLD->gpu_count, INVALID_ARGUMENT);
    return found(&call, index, device);
}

/* Of a whole GPU, or of a MIG device. */
EXPORT int nvmlDeviceGetHandleByUUID(const char *uuid, handle_t *device)
{
    CALL(-1, "uuid=%s", uuid ? uuid : "");
    REFUSE_IF(device == NULL || uuid == NULL, INVALID_ARGUMENT);
    for (uint32_t n = 0; n < WORLD->gpu_count; n++) {
        struct gpu *gpu = &WORLD->gpus[n];
        if (strcmp(gpu->uuid, uuid) == 0)
            return found(&call, n, device);
        for (uint32_t gi = 0; gi < MAX_GIS; gi++)
            for (uint32_t ci = 0; gpu->gi[gi].live && !gpu->lost && ci < MAX_CIS; ci++) {
                char text[NAME_SIZE];
                if (!gpu->gi[gi].ci[ci].live)
                    continue;
                mig_uuid(n, gi, ci, text);
                if (strcmp(text, uuid) == 0) {
                    *device = handle(MIG_DEVICE, n, gi, ci, gpu->gi[gi].ci[ci].generation);
                    RETURN(SUCCESS);
                }
            }
    }
    RETURN(NOT_FOUND);
}

EXPORT int nvmlDeviceGetHandleByPciBusId_v2(const char *address, handle_t *device)
{
    CALL(-1, "pci=%s", address ? address : "");
    uint32_t domain, bus, slot, function;
    REFUSE_IF(device == NULL || address == NULL, INVALID_ARGUMENT);
    REFUSE_IF(sscanf(address, "%x:%x:%x.%x", &domain, &bus, &slot, &function) != 4,
              INVALID_ARGUMENT);
    for (uint32_t n = 0; n < WORLD->gpu_count; n++)
        if (WORLD->gpus[n].domain == domain && WORLD->gpus[n].bus == bus && slot == 0)
            return found(&call, n, device);
    RETURN(NOT_FOUND);
}

/* ------------------------------------------------------------------ what it is */

EXPORT int nvmlDeviceGetIndex(handle_t device, uint32_t *index)
{
    CALL(GPU_OF(device), "gpu=%u", GPU_OF(device));
    USE_GPU(device);
    REFUSE_IF(index == NULL, INVALID_ARGUMENT);
    *index = gpu_index(gpu);
    RETURN(SUCCESS);
}

EXPORT int nvmlDeviceGetMinorNumber(handle_t device, uint32_t *minor)
{
    CALL(GPU_OF(device), "gpu=%u", GPU_OF(device));
    USE_GPU(device);
    REFUSE_IF(minor == NULL, INVALID_ARGUMENT);
    *minor = gpu_index(gpu);
    RETURN(SUCCESS);
}

EXPORT int nvmlDeviceGetName(handle_t device, char *name, uint32_t length)
{
    CALL(GPU_OF(device), "gpu=%u", GPU_OF(device));
    USE_GPU(device);
    char text[2 * NAME_SIZE];
    snprintf(text, sizeof text, "%s", model_of(gpu)->nvml_name);
    if (KIND(device) == MIG_DEVICE) {
        uint32_t profile_id = gpu->gi[GI_OF(device)].profile_id;
        snprintf(text, sizeof text, "%s MIG %s", model_of(gpu)->nvml_name,
                 profile_by_id(gpu, profile_id)->name);
    }
    RETURN(copy_string(name, length, text));
}

EXPORT int nvmlDeviceGetUUID(handle_t device, char *uuid, uint32_t length)
{
    CALL(GPU_OF(device), "gpu=%u", GPU_OF(device));
    USE_GPU(device);
    char text[NAME_SIZE];
    if (KIND(device) == MIG_DEVICE)
        mig_uuid(GPU_OF(device), GI_OF(device), CI_OF(device), text);
    else
        snprintf(text, sizeof text, "%s", gpu->uuid);
    RETURN(copy_string(uuid, length, text));
}

struct pci_info {
    char legacy[16];
    uint32_t domain, bus, device, device_id, subsystem_id;
    char address[32];
};

EXPORT int nvmlDeviceGetPciInfo_v3(handle_t device, struct pci_info *info)
{
    CALL(GPU_OF(device), "gpu=%u", GPU_OF(device));
    USE_GPU(device);
    REFUSE_IF(info == NULL, INVALID_ARGUMENT);
    memset(info, 0, sizeof *info);
    info->domain = gpu->domain;
    info->bus = gpu->bus;
    info->device_id = model_of(gpu)->pci_device_id;
    snprintf(info->legacy, sizeof info->legacy, "%04X:%02X:00.0", gpu->domain & 0xffff,
             gpu->bus & 0xff);
    snprintf(info->address, sizeof info->address, "%08X:%02X:00.0", gpu->domain, gpu->bus & 0xff);
    RETURN(SUCCESS);
}

EXPORT int nvmlDeviceGetArchitecture(handle_t device, uint32_t *architecture)
{
    CALL(GPU_OF(device), "gpu=%u", GPU_OF(device));
    USE_GPU(device);
    REFUSE_IF(architecture == NULL, INVALID_ARGUMENT);
    *architecture = model_of(gpu)->architecture;
    RETURN(SUCCESS);
}

struct memory {
    uint64_t total, free, used;
};

EXPORT int nvmlDeviceGetMemoryInfo(handle_t device, struct memory *memory)
{
    CALL(GPU_OF(device), "gpu=%u", GPU_OF(device));
    USE_GPU(device);
    REFUSE_IF(memory == NULL, INVALID_ARGUMENT);
    uint64_t mib = model_of(gpu)->memory_mib;
    if (KIND(device) == MIG_DEVICE)
        mib = profile_by_id(gpu, gpu->gi[GI_OF(device)].profile_id)->memory_mib;
    *memory = (struct memory){mib << 20, mib << 20, 0};
    RETURN(SUCCESS);
}

/* Only where the GPU's memory is a NUMA node itself (GH200); the host's node is the affinity. */
EXPORT int nvmlDeviceGetNumaNodeId(handle_t device, uint32_t *node)
{
    CALL(GPU_OF(device), "gpu=%u", GPU_OF(device));
    USE_GPU(device);
    (void)gpu;
    REFUSE_IF(node == NULL, INVALID_ARGUMENT);
    RETURN(NOT_SUPPORTED);
}

EXPORT int nvmlDeviceGetMemoryAffinity(handle_t device, uint32_t size, uint64_t *nodes,
                                       uint32_t scope)
{
    CALL(GPU_OF(device), "gpu=%u size=%u scope=%u", GPU_OF(device), size, scope);
    USE_GPU(device);
    REFUSE_IF(nodes == NULL || size == 0 || scope > 1, INVALID_ARGUMENT);
    memset(nodes, 0, size * sizeof *nodes);
    if (gpu->numa_node < size * 64)
        nodes[gpu->numa_node / 64] = 1ull << gpu->numa_node % 64;
    RETURN(SUCCESS);
}
