/* The rules of MIG: what may be created where, what may be destroyed, and the names it gets. */
#include "fake.h"

#include <stdio.h>
#include <string.h>

static bool starts_at(const struct profile *profile, uint32_t start)
{
    for (uint32_t n = 0; n < profile->start_count; n++)
        if (profile->starts[n] == start)
            return true;
    return false;
}

static uint32_t count_alike(const struct gpu *gpu, uint32_t profile_id)
{
    uint32_t alike = 0;
    for (uint32_t gi = 0; gi < MAX_GIS; gi++)
        alike += gpu->gi[gi].live && gpu->gi[gi].profile_id == profile_id;
    return alike;
}

static bool overlaps(const struct gpu *gpu, uint32_t start, uint32_t size)
{
    for (uint32_t n = 0; n < MAX_GIS; n++) {
        const struct gpu_instance *gi = &gpu->gi[n];
        if (gi->live && start < gi->start + gi->size && gi->start < start + size)
            return true;
    }
    return false;
}

/* How many more of a profile fit, if the lowest starts are taken first. */
uint32_t gi_remaining(const struct gpu *gpu, const struct profile *profile)
{
    uint32_t fit = 0, end = 0, alike = count_alike(gpu, profile->id);
    for (uint32_t n = 0; n < profile->start_count; n++) {
        uint32_t start = profile->starts[n];
        if (start >= end && !overlaps(gpu, start, profile->size)) {
            fit++;
            end = start + profile->size;
        }
    }
    uint32_t left = alike < profile->max_instances ? profile->max_instances - alike : 0;
    return fit < left ? fit : left;
}

int gi_create(uint32_t gpu_at, uint32_t profile_id, uint32_t start, uint32_t size, uint32_t *gi)
{
    struct gpu *gpu = &WORLD->gpus[gpu_at];
    const struct profile *profile = profile_by_id(gpu, profile_id);
    if (profile == NULL || size != profile->size || !starts_at(profile, start))
        return INVALID_ARGUMENT;
    if (count_alike(gpu, profile_id) >= profile->max_instances || overlaps(gpu, start, size))
        return INSUFFICIENT_RESOURCES;
    uint32_t id = 1; /* the lowest free id: ids come again */
    while (id < MAX_GIS && gpu->gi[id].live)
        id++;
    if (id == MAX_GIS)
        return INSUFFICIENT_RESOURCES;
    memset(&gpu->gi[id], 0, sizeof gpu->gi[id]);
    gpu->gi[id].generation = ++WORLD->generation & 0xfffffff;
    gpu->gi[id].profile_id = profile_id;
    gpu->gi[id].start = start;
    gpu->gi[id].size = size;
    __atomic_store_n(&gpu->gi[id].live, 1, __ATOMIC_SEQ_CST);
    emit(gpu_at, EVENT_MIG_CONFIG_CHANGE, 0, id, WHOLE_GPU);
    *gi = id;
    return SUCCESS;
}

bool gi_in_use(uint32_t gpu, uint32_t gi)
{
    for (uint32_t n = 0; n < MAX_CLIENTS; n++) {
        const struct client *client = &WORLD->clients[n];
        if (client->live && client->gpu == gpu && client->gi == gi)
            return true;
    }
    for (uint32_t n = 0; n < MAX_VGPUS; n++) {
        const struct vgpu *vgpu = &WORLD->vgpus[n];
        if (vgpu->live && vgpu->gpu == gpu && vgpu->gi == gi)
            return true;
    }
    return false;
}

int gi_destroy(uint32_t gpu, uint32_t gi)
{
    struct gpu_instance *found = &WORLD->gpus[gpu].gi[gi];
    if (gi_in_use(gpu, gi))
        return IN_USE;
    for (uint32_t ci = 0; ci < MAX_CIS; ci++)
        if (found->ci[ci].live)
            return IN_USE;
    __atomic_store_n(&found->live, 0, __ATOMIC_SEQ_CST);
    emit(gpu, EVENT_MIG_CONFIG_CHANGE, 0, gi, WHOLE_GPU);
    return SUCCESS;
}

/* Whether a GPU instance has the compute instance profile. Where a 1g has more multiprocessors
 * than one slice (1g.20gb on H100: 26), all of them come with enumerator 7 (REV1) and enumerator 0
 * has those of one slice. */
bool ci_profile(const struct gpu *gpu, uint32_t gi_profile, uint32_t enumerator,
                struct ci_profile *found)
{
    static const uint32_t SLICES[] = {1, 2, 3, 4, 7, 8, 6, 1};
    const struct profile *profile = profile_by_id(gpu, gi_profile);
    if (enumerator >= sizeof SLICES / sizeof *SLICES)
        return false;
    uint32_t one = model_of(gpu)->slice_multiprocessors;
    uint32_t slices = SLICES[enumerator], all = profile->compute_slices;
    bool rich = all == 1 && profile->multiprocessors > one;
    if (enumerator == 7 && !rich)
        return false;
    if (slices > all || (slices == 3 && all == 4)) /* -lcip of a 4g lists 1c, 2c and 4c */
        return false;
    found->slices = slices;
    found->multiprocessors = slices * one;
    if (slices == all && (!rich || enumerator == 7))
        found->multiprocessors = profile->multiprocessors;
    return true;
}

bool ci_overlaps(const struct gpu_instance *gi, uint32_t start, uint32_t size)
{
    for (uint32_t n = 0; n < MAX_CIS; n++) {
        const struct compute_instance *ci = &gi->ci[n];
        if (ci->live && start < ci->start + ci->size && ci->start < start + size)
            return true;
    }
    return false;
}

uint32_t slices_of(const struct gpu *gpu, const struct gpu_instance *gi)
{
    return profile_by_id(gpu, gi->profile_id)->compute_slices;
}

static uint32_t free_mig_index(const struct gpu *gpu)
{
    uint32_t taken = 0, index = 0;
    for (uint32_t gi = 0; gi < MAX_GIS; gi++)
        for (uint32_t ci = 0; gpu->gi[gi].live && ci < MAX_CIS; ci++)
            if (gpu->gi[gi].ci[ci].live)
                taken |= 1u << gpu->gi[gi].ci[ci].mig_index;
    while (taken >> index & 1)
        index++;
    return index;
}

/* With start < 0 the driver chooses: the lowest start that is free. */
int ci_create(uint32_t gpu_at, uint32_t gi_at, uint32_t profile, int start, uint32_t *ci)
{
    struct gpu *gpu = &WORLD->gpus[gpu_at];
    struct gpu_instance *gi = &gpu->gi[gi_at];
    struct ci_profile wanted;
    if (!ci_profile(gpu, gi->profile_id, profile, &wanted))
        return NOT_SUPPORTED;
    uint32_t slices = slices_of(gpu, gi), at = start < 0 ? 0 : (uint32_t)start, id = 0;
    if (at % wanted.slices != 0 || at + wanted.slices > slices)
        return INVALID_ARGUMENT;
    while (start < 0 && at + wanted.slices <= slices && ci_overlaps(gi, at, wanted.slices))
        at += wanted.slices;
    while (id < MAX_CIS && gi->ci[id].live)
        id++;
    if (id == MAX_CIS || at + wanted.slices > slices || ci_overlaps(gi, at, wanted.slices))
        return INSUFFICIENT_RESOURCES;
    uint32_t generation = ++WORLD->generation & 0xfffffff;
    gi->ci[id] = (struct compute_instance){
        0, generation, profile, at, wanted.slices, free_mig_index(gpu)};
    __atomic_store_n(&gi->ci[id].live, 1, __ATOMIC_SEQ_CST);
    emit(gpu_at, EVENT_MIG_CONFIG_CHANGE, 0, gi_at, id);
    *ci = id;
    return SUCCESS;
}

int ci_destroy(uint32_t gpu, uint32_t gi, uint32_t ci)
{
    if (gi_in_use(gpu, gi)) /* clients are counted per GPU instance */
        return IN_USE;
    __atomic_store_n(&WORLD->gpus[gpu].gi[gi].ci[ci].live, 0, __ATOMIC_SEQ_CST);
    emit(gpu, EVENT_MIG_CONFIG_CHANGE, 0, gi, ci);
    return SUCCESS;
}

void gpu_clear(uint32_t gpu)
{
    memset(WORLD->gpus[gpu].gi, 0, sizeof WORLD->gpus[gpu].gi);
    for (uint32_t n = 0; n < MAX_CLIENTS; n++)
        WORLD->clients[n].live &= WORLD->clients[n].gpu != gpu;
    for (uint32_t n = 0; n < MAX_VGPUS; n++)
        WORLD->vgpus[n].live &= WORLD->vgpus[n].gpu != gpu;
    WORLD->gpus[gpu].epoch = ++WORLD->generation & 0xfffffff;
}

static uint64_t mixed(uint64_t hash, const char *text)
{
    for (; *text; text++) { /* FNV-1a, then splitmix64's finish: every bit depends on every byte */
        hash = (hash ^ (unsigned char)*text) * 0x100000001b3;
    }
    hash = (hash ^ hash >> 30) * 0xbf58476d1ce4e5b9;
    hash = (hash ^ hash >> 27) * 0x94d049bb133111eb;
    return hash ^ hash >> 31;
}

/* Name-based like the real ones: the same GPU, GPU instance id and compute instance id give the
 * same UUID again, so nobody can mistake it for a fencing token. */
void mig_uuid(uint32_t gpu, uint32_t gi, uint32_t ci, char text[NAME_SIZE])
{
    char name[NAME_SIZE + 32];
    snprintf(name, sizeof name, "%s/%u/%u", WORLD->gpus[gpu].uuid, gi, ci);
    uint64_t high = mixed(0xcbf29ce484222325, name), low = mixed(high, name);
    snprintf(text, NAME_SIZE, "MIG-%08x-%04x-5%03x-%04x-%012llx", (uint32_t)(high >> 32),
             (uint32_t)(high >> 16) & 0xffff, (uint32_t)high & 0xfff,
             ((uint32_t)(low >> 48) & 0x3fff) | 0x8000,
             (unsigned long long)(low & 0xffffffffffff));
}

handle_t gi_handle(uint32_t gpu, uint32_t gi)
{
    return handle(GPU_INSTANCE, gpu, gi, 0, WORLD->gpus[gpu].gi[gi].generation);
}

handle_t ci_handle(enum handle_kind kind, uint32_t gpu, uint32_t gi, uint32_t ci)
{
    return handle(kind, gpu, gi, ci, WORLD->gpus[gpu].gi[gi].ci[ci].generation);
}
