/* The shared file, its lock, the call log, the faults, and handles. */
#include "fake.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

__thread struct machine *machine;

static __thread struct world before; /* what FAULT_NOT_DONE goes back to */

/* The machines this process has mapped, with their logs. A mapping keeps its inode, so that no
 * other file can pass for it. */
static struct {
    struct machine *machine;
    dev_t device;
    ino_t inode;
    int log;
} mapped[1024];
enum { SLOTS = sizeof mapped / sizeof *mapped };
static pthread_mutex_t mapping = PTHREAD_MUTEX_INITIALIZER;

static struct machine *map_locked(const char *path)
{
    struct stat status;
    char log_path[4096];
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0)
        return NULL;
    if (fstat(file, &status) != 0 || status.st_size < (off_t)sizeof(struct machine)) {
        close(file);
        return NULL;
    }
    size_t slot = 0;
    for (; slot < SLOTS; slot++)
        if (mapped[slot].machine != NULL && mapped[slot].inode == status.st_ino &&
            mapped[slot].device == status.st_dev) {
            close(file);
            return mapped[slot].machine;
        }
    for (slot = 0; slot < SLOTS && mapped[slot].machine != NULL; slot++)
        ;
    void *memory = MAP_FAILED;
    if (slot < SLOTS)
        memory = mmap(NULL, sizeof(struct machine), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (memory == MAP_FAILED)
        return NULL;
    snprintf(log_path, sizeof log_path, "%s.log", path);
    mapped[slot].log = open(log_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    mapped[slot].device = status.st_dev;
    mapped[slot].inode = status.st_ino;
    mapped[slot].machine = memory;
    return memory;
}

struct machine *machine_map(const char *path)
{
    pthread_mutex_lock(&mapping);
    struct machine *found = map_locked(path);
    pthread_mutex_unlock(&mapping);
    return found;
}

void machine_unmap(struct machine *of)
{
    pthread_mutex_lock(&mapping);
    for (size_t slot = 0; slot < SLOTS; slot++)
        if (of != NULL && mapped[slot].machine == of) {
            mapped[slot].machine = NULL;
            close(mapped[slot].log);
            munmap(of, sizeof *of);
        }
    pthread_mutex_unlock(&mapping);
}

int machine_log(const struct machine *of)
{
    for (size_t slot = 0; slot < SLOTS; slot++)
        if (mapped[slot].machine == of)
            return mapped[slot].log;
    return -1;
}

/* Robust: the kernel hands the lock on when its holder is killed, with the machine as it was. */
void machine_lock(void)
{
    if (pthread_mutex_lock(&machine->lock) == EOWNERDEAD)
        pthread_mutex_consistent(&machine->lock);
}

void machine_unlock(void)
{
    pthread_mutex_unlock(&machine->lock);
}

void machine_pause(uint32_t milliseconds)
{
    struct timespec pause = {milliseconds / 1000, (long)(milliseconds % 1000) * 1000000L};
    nanosleep(&pause, NULL);
}

/* One write per line: O_APPEND keeps the lines of several processes whole. */
static void log_line(const char *line, size_t length)
{
    if (machine->logging && write(machine_log(machine), line, length) < 0)
        return; /* a full disk must not change what the machine does */
}

void take_fault(struct call *call, int gpu, uint32_t *milliseconds)
{
    for (uint32_t n = 0; n < MAX_FAULTS; n++) {
        struct fault *fault = &machine->faults[n];
        if (fault->kind == FAULT_NONE || strcmp(fault->symbol, call->symbol) != 0)
            continue;
        if (fault->gpu >= 0 && fault->gpu != gpu)
            continue;
        if (fault->skip > 0) {
            fault->skip--;
            continue;
        }
        call->kind = fault->kind;
        call->code = fault->code;
        *milliseconds = fault->milliseconds;
        if (--fault->count == 0)
            fault->kind = FAULT_NONE;
        return;
    }
}

/* Wait without the lock, so that only the caller hangs; the tests can let it go on. */
static void hang(uint32_t milliseconds)
{
    uint64_t releases = machine->releases;
    machine_unlock();
    for (uint32_t passed = 0; passed < milliseconds; passed++) {
        machine_pause(1);
        if (__atomic_load_n(&machine->releases, __ATOMIC_SEQ_CST) != releases)
            break;
    }
    machine_lock();
}

int enter(struct call *call, const char *symbol, int gpu, const char *format, ...)
{
    uint32_t milliseconds = 0;
    machine = nvml_machine_enter();
    if (machine == NULL)
        return UNINITIALIZED;
    *call = (struct call){.symbol = symbol};
    machine_lock();
    call->number = ++machine->calls;
    if (machine->logging) {
        char line[512];
        int length = snprintf(line, sizeof line, "> %llu %d %s ", (unsigned long long)call->number,
                              (int)getpid(), symbol);
        va_list arguments;
        va_start(arguments, format);
        length += vsnprintf(line + length, sizeof line - (size_t)length - 1, format, arguments);
        va_end(arguments);
        line[length++] = '\n';
        log_line(line, (size_t)length);
    }
    take_fault(call, gpu, &milliseconds);
    if (milliseconds > 0)
        hang(milliseconds);
    if (call->kind == FAULT_KILL_BEFORE)
        kill(getpid(), SIGKILL);
    if (call->kind == FAULT_NOT_DONE)
        before = *WORLD;
    if (call->kind == FAULT_ERROR)
        return leave(call, (int)call->code);
    return SUCCESS;
}

int leave(struct call *call, int code)
{
    if (call->kind == FAULT_KILL_AFTER)
        kill(getpid(), SIGKILL); /* still locked: the next process inherits the lock */
    if (call->kind == FAULT_NOT_DONE && code == SUCCESS)
        *WORLD = before; /* the answer stays as if it had been done */
    if (call->kind == FAULT_DONE_BUT_ERROR && code == SUCCESS)
        code = (int)call->code;
    if (machine->logging) {
        char line[64];
        int length = snprintf(line, sizeof line, "< %llu %d\n", (unsigned long long)call->number,
                              code);
        log_line(line, (size_t)length);
    }
    machine_unlock();
    nvml_machine_leave();
    return code;
}

handle_t handle(enum handle_kind kind, uint32_t gpu, uint32_t gi, uint32_t ci, uint32_t generation)
{
    return (handle_t)kind << 52 | (handle_t)gpu << 44 | (handle_t)gi << 36 | (handle_t)ci << 28 |
           (generation & 0xfffffff);
}

handle_t device_handle(uint32_t gpu)
{
    return handle(DEVICE, gpu, 0, 0, WORLD->gpus[gpu].epoch);
}

struct gpu_instance *find_gi(handle_t gi)
{
    if (GPU_OF(gi) >= WORLD->gpu_count || GI_OF(gi) >= MAX_GIS || KIND(gi) != GPU_INSTANCE)
        return NULL;
    struct gpu_instance *found = &WORLD->gpus[GPU_OF(gi)].gi[GI_OF(gi)];
    return found->live && found->generation == GENERATION(gi) ? found : NULL;
}

/* Both a compute instance and the MIG device that it is. */
struct compute_instance *find_ci(handle_t ci)
{
    if (GPU_OF(ci) >= WORLD->gpu_count || GI_OF(ci) >= MAX_GIS || CI_OF(ci) >= MAX_CIS)
        return NULL;
    if (KIND(ci) != COMPUTE_INSTANCE && KIND(ci) != MIG_DEVICE)
        return NULL;
    struct gpu_instance *gi = &WORLD->gpus[GPU_OF(ci)].gi[GI_OF(ci)];
    struct compute_instance *found = &gi->ci[CI_OF(ci)];
    return gi->live && found->live && found->generation == GENERATION(ci) ? found : NULL;
}

struct gpu *find_gpu(handle_t device)
{
    if (GPU_OF(device) >= WORLD->gpu_count)
        return NULL;
    struct gpu *gpu = &WORLD->gpus[GPU_OF(device)];
    if (KIND(device) == MIG_DEVICE)
        return find_ci(device) ? gpu : NULL;
    return KIND(device) == DEVICE && GENERATION(device) == gpu->epoch ? gpu : NULL;
}

uint32_t gpu_index(const struct gpu *gpu)
{
    return (uint32_t)(gpu - WORLD->gpus);
}

const struct model *model_of(const struct gpu *gpu)
{
    return &MODELS[gpu->model];
}

const struct profile *profile_by_id(const struct gpu *gpu, uint32_t id)
{
    const struct model *model = model_of(gpu);
    for (uint32_t n = 0; n < model->profile_count; n++)
        if (model->profiles[n].id == id)
            return &model->profiles[n];
    return NULL;
}

void emit(uint32_t gpu, uint64_t type, uint64_t data, uint32_t gi, uint32_t ci)
{
    WORLD->events[WORLD->event_count % MAX_EVENTS] = (struct event){
        gpu, gi, ci, WORLD->gpus[gpu].epoch, type, data};
    WORLD->event_count++;
}

int copy_string(char *buffer, uint32_t length, const char *text)
{
    if (buffer == NULL)
        return INVALID_ARGUMENT;
    if (length < strlen(text) + 1)
        return INSUFFICIENT_SIZE;
    strcpy(buffer, text);
    return SUCCESS;
}
