/* A machine with NVIDIA GPUs, kept in one file that every process maps: what they all share.
 *
 * The NVML functions (device.c, processes.c, health.c, mig.c, compute.c, vgpu.c) read and change that
 * machine; the tests' own functions (control.c) build it, break it and read it. Both are compiled
 * from these sources.
 */
#ifndef TANGRAM_FAKE_NVML_H
#define TANGRAM_FAKE_NVML_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

enum {
    MAX_GPUS = 16,
    MAX_GIS = 16, /* ids 1..15: no known GPU holds more than seven */
    MAX_CIS = 8,
    MAX_CLIENTS = 64,
    MAX_VGPUS = 128,
    MAX_FAULTS = 64,
    MAX_EVENTS = 256, /* a ring: whoever waits too long loses the oldest */
    MAX_HOLDERS = 64,
    NAME_SIZE = 96,
};

/* The codes of nvml.h that the fake answers with. */
enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NO_PERMISSION = 4,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9,
    TIMEOUT = 10,
    GPU_IS_LOST = 15,
    RESET_REQUIRED = 16,
    IN_USE = 19,
    INSUFFICIENT_RESOURCES = 23,
    UNKNOWN_ERROR = 999,
};

/* The tables that library.py generates from nodeagent.api.catalog. */
struct profile {
    uint32_t id, enumerator, compute_slices, size, max_instances, multiprocessors;
    uint64_t memory_mib;
    const char *name;
    uint32_t start_count, starts[16];
};
struct vgpu_type {
    uint32_t id, profile_id, max_per_instance;
    const char *name;
};
struct model {
    const char *name, *nvml_name;
    uint32_t memory_slices, compute_slices, architecture, pci_device_id, slice_multiprocessors;
    uint64_t memory_mib;
    uint32_t profile_count, vgpu_type_count;
    const struct profile *profiles;
    const struct vgpu_type *vgpu_types;
};
extern const struct model MODELS[];
extern const uint32_t MODEL_COUNT;

/* `live` is always the last field written when something comes to be, and the first when it ends:
 * a process killed in between leaves either nothing or all of it, like the kernel driver does. */
struct compute_instance {
    uint32_t live, generation, profile, start, size, mig_index;
};
struct gpu_instance {
    uint32_t live, generation, profile_id, start, size;
    struct compute_instance ci[MAX_CIS];
};
struct gpu {
    uint32_t model, epoch, numa_node, domain, bus;
    uint32_t mig_capable, mig_current, mig_pending;
    uint32_t lost, recovery_action, retired_pending, virtualization;
    uint32_t functions; /* virtual functions, numbered from 1 */
    uint32_t remapped[4]; /* corrected, uncorrected, pending, failed */
    uint64_t ecc[2];      /* corrected, uncorrected */
    char uuid[NAME_SIZE];
    struct gpu_instance gi[MAX_GIS];
};
struct client {
    uint32_t live, gpu, gi, listed; /* listed: a process that NVML tells of */
    char name[64];
};
struct vgpu {
    uint32_t live, gpu, gi, type;
    uint32_t function; /* the virtual function it is on, 0 if the test does not care */
    uint32_t opened;   /* a VM has it open; NVML tells of no other */
    char uuid[64];
};
struct event {
    uint32_t gpu, gi, ci, epoch;
    uint64_t type, data;
};
struct world {
    uint32_t gpu_count, generation;
    struct gpu gpus[MAX_GPUS];
    struct client clients[MAX_CLIENTS];
    struct vgpu vgpus[MAX_VGPUS];
    uint64_t event_count; /* ever, so that readers can tell what they missed */
    struct event events[MAX_EVENTS];
};

enum fault_kind {
    FAULT_NONE,
    FAULT_ERROR,          /* refuses: nothing happens */
    FAULT_DONE_BUT_ERROR, /* happens, and says that it did not */
    FAULT_NOT_DONE,       /* says success, and nothing happened */
    FAULT_HANG,           /* only waits, then goes on as usual */
    FAULT_KILL_BEFORE,    /* SIGKILL to the caller: nothing happened */
    FAULT_KILL_AFTER,     /* SIGKILL to the caller: it happened */
};
struct fault {
    uint32_t kind, skip, count, code, milliseconds;
    int32_t gpu; /* -1: any */
    char symbol[NAME_SIZE];
};

enum privilege { PRIVILEGE_NONE, PRIVILEGE_MONITOR, PRIVILEGE_CONFIG };

struct machine {
    uint64_t magic, size;
    pthread_mutex_t lock;
    uint32_t privilege, logging;
    uint64_t calls, releases; /* releases: counts up to wake whoever hangs */
    char driver_version[80];
    int32_t holders[MAX_HOLDERS]; /* the processes that have NVML open, 0 where there is none */
    struct fault faults[MAX_FAULTS];
    struct world world;
};

/* The machine that this thread works on, and the part of it that holds the GPUs. */
extern __thread struct machine *machine;
#define WORLD (&machine->world)

struct machine *machine_map(const char *path);
void machine_unmap(struct machine *of);

/* The machine that nvmlInit opened, NULL before; it stays mapped until the call leaves. */
struct machine *nvml_machine_enter(void);
void nvml_machine_leave(void);
int machine_log(const struct machine *of);
void machine_lock(void);
void machine_unlock(void);
void machine_pause(uint32_t milliseconds);

/* One NVML call. It holds the machine's lock from enter() to leave(). */
struct call {
    const char *symbol;
    uint64_t number;
    uint32_t kind, code;
};
void take_fault(struct call *call, int gpu, uint32_t *milliseconds);
int enter(struct call *call, const char *symbol, int gpu, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
int leave(struct call *call, int code);

/* CALL opens every NVML function, RETURN ends it; GPU_, GI_ and CI_ resolve a handle or end it. */
#define CALL(gpu, ...)                                               \
    struct call call;                                                \
    {                                                                \
        int refused = enter(&call, __func__, (int)(gpu), __VA_ARGS__); \
        if (refused)                                                 \
            return refused;                                          \
    }
#define RETURN(code) return leave(&call, (code))
#define REFUSE_IF(condition, code) \
    do {                           \
        if (condition)             \
            RETURN(code);          \
    } while (0)

/* Handles are numbers that only look like pointers. The generation makes one stale for ever. */
typedef uint64_t handle_t;
enum handle_kind { DEVICE = 1, MIG_DEVICE, GPU_INSTANCE, COMPUTE_INSTANCE, EVENT_SET };
handle_t handle(enum handle_kind kind, uint32_t gpu, uint32_t gi, uint32_t ci, uint32_t generation);
#define KIND(h) ((uint32_t)((h) >> 52) & 0xf)
#define GPU_OF(h) ((uint32_t)((h) >> 44) & 0xff)
#define GI_OF(h) ((uint32_t)((h) >> 36) & 0xff)
#define CI_OF(h) ((uint32_t)((h) >> 28) & 0xff)
#define GENERATION(h) ((uint32_t)((h) & 0xfffffff))
handle_t device_handle(uint32_t gpu);

struct gpu *find_gpu(handle_t device);      /* a GPU, or the parent of a MIG device */
struct gpu_instance *find_gi(handle_t gi);  /* NULL when stale */
struct compute_instance *find_ci(handle_t ci);

#define USE_GPU(device)                         \
    struct gpu *gpu = find_gpu(device);         \
    REFUSE_IF(gpu == NULL, INVALID_ARGUMENT);   \
    REFUSE_IF(gpu->lost, GPU_IS_LOST)
#define USE_GI(of)                              \
    struct gpu_instance *gi = find_gi(of);      \
    REFUSE_IF(gi == NULL, INVALID_ARGUMENT);    \
    struct gpu *gpu = &WORLD->gpus[GPU_OF(of)]; \
    REFUSE_IF(gpu->lost, GPU_IS_LOST)
#define REQUIRE(needed) REFUSE_IF(machine->privilege < (needed), NO_PERMISSION)
#define REQUIRE_MIG() REFUSE_IF(!gpu->mig_current, NOT_SUPPORTED)

const struct model *model_of(const struct gpu *gpu);
const struct profile *profile_by_id(const struct gpu *gpu, uint32_t id);
const struct vgpu_type *vgpu_type_by_id(uint32_t id, uint32_t *model);
uint32_t gpu_index(const struct gpu *gpu);

void emit(uint32_t gpu, uint64_t type, uint64_t data, uint32_t gi, uint32_t ci);
void forget_event_sets(void); /* they end with the last nvmlShutdown */
enum { EVENT_XID = 8, EVENT_MIG_CONFIG_CHANGE = 0x100, WHOLE_GPU = 0xffffffff };

/* NVML's own structure of a placement, of GPU and of compute instances. */
struct placement {
    uint32_t start, size;
};

/* The rules of MIG, for NVML's functions and for what the tests do behind the agent's back. */
int gi_create(uint32_t gpu, uint32_t profile_id, uint32_t start, uint32_t size, uint32_t *gi);
int gi_destroy(uint32_t gpu, uint32_t gi);
int ci_create(uint32_t gpu, uint32_t gi, uint32_t profile, int start, uint32_t *ci);
int ci_destroy(uint32_t gpu, uint32_t gi, uint32_t ci);
bool gi_in_use(uint32_t gpu, uint32_t gi);
bool vgpu_fits(uint32_t gpu, uint32_t gi, const struct vgpu_type *type);
uint32_t gi_remaining(const struct gpu *gpu, const struct profile *profile);
uint32_t slices_of(const struct gpu *gpu, const struct gpu_instance *gi);
bool ci_overlaps(const struct gpu_instance *gi, uint32_t start, uint32_t size);
handle_t gi_handle(uint32_t gpu, uint32_t gi);
handle_t ci_handle(enum handle_kind kind, uint32_t gpu, uint32_t gi, uint32_t ci);

/* A compute instance profile's number is its NVML enumerator, as -lcip listings print it. */
struct ci_profile {
    uint32_t slices, multiprocessors;
};
bool ci_profile(const struct gpu *gpu, uint32_t gi_profile, uint32_t enumerator,
                struct ci_profile *found);
void gpu_clear(uint32_t gpu); /* what a reset ends: instances, clients, vGPUs, handles */
void mig_uuid(uint32_t gpu, uint32_t gi, uint32_t ci, char text[NAME_SIZE]);

int copy_string(char *buffer, uint32_t length, const char *text);

#endif
