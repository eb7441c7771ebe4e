/* NVML: the processes on a GPU. What else holds it (a monitor, an open device) is not listed. */
#include "fake.h"

struct process {
    uint32_t pid;
    uint64_t memory;
    uint32_t gi, ci;
};

enum { FIRST_PID = 1000 };

/* Count, then fill: with room for too few it says how many there are. */
static int list(uint32_t gpu, uint32_t *count, struct process *processes)
{
    uint32_t room = *count, found = 0;
    for (uint32_t n = 0; n < MAX_CLIENTS; n++) {
        const struct client *client = &WORLD->clients[n];
        if (!client->live || !client->listed || client->gpu != gpu)
            continue;
        if (processes != NULL && found < room)
            processes[found] = (struct process){FIRST_PID + n, 1 << 20,
                                                client->gi ? client->gi : WHOLE_GPU, WHOLE_GPU};
        found++;
    }
    *count = found;
    return found > room ? INSUFFICIENT_SIZE : SUCCESS;
}

EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(handle_t device, uint32_t *count,
                                                   struct process *processes)
{
    CALL(GPU_OF(device), "gpu=%u", GPU_OF(device));
    USE_GPU(device);
    REFUSE_IF(count == NULL, INVALID_ARGUMENT);
    RETURN(list(gpu_index(gpu), count, processes));
}

EXPORT int nvmlDeviceGetGraphicsRunningProcesses_v3(handle_t device, uint32_t *count,
                                                    struct process *processes)
{
    CALL(GPU_OF(device), "gpu=%u", GPU_OF(device));
    USE_GPU(device);
    (void)gpu;
    REFUSE_IF(count == NULL || (*count > 0 && processes == NULL), INVALID_ARGUMENT);
    *count = 0; /* clients of the fake only compute */
    RETURN(SUCCESS);
}
