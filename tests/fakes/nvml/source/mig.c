/* NVML: MIG modes, GPU instance profiles, GPU instances. */
#include "fake.h"

#include <stdio.h>
#include <string.h>

/* ------------------------------------------------------------------ modes */

EXPORT int nvmlDeviceGetMigMode(handle_t device, uint32_t *current, uint32_t *pending)
{
    CALL(GPU_OF(device), "gpu=%u", GPU_OF(device));
    USE_GPU(device);
    REFUSE_IF(current == NULL || pending == NULL, INVALID_ARGUMENT);
    REFUSE_IF(!gpu->mig_capable, NOT_SUPPORTED);
    *current = gpu->mig_current;
    *pending = gpu->mig_pending;
    RETURN(SUCCESS);
}

/* From Hopper on a mode comes into force at once if the GPU is idle; before, with the next reset.
 * That it did not is no error: it is said in the activation status alone. */
EXPORT int nvmlDeviceSetMigMode(handle_t device, uint32_t mode, uint32_t *activation)
{
    CALL(GPU_OF(device), "gpu=%u mode=%u", GPU_OF(device), mode);
    USE_GPU(device);
    REFUSE_IF(activation == NULL || mode > 1 || KIND(device) != DEVICE, INVALID_ARGUMENT);
    REFUSE_IF(!gpu->mig_capable, NOT_SUPPORTED);
    REQUIRE(PRIVILEGE_CONFIG);
    bool busy = false;
    for (uint32_t gi = 0; gi < MAX_GIS; gi++) /* clients of the whole GPU are those of gi 0 */
        busy |= gpu->gi[gi].live || gi_in_use(GPU_OF(device), gi);
    gpu->mig_pending = mode;
    *activation = SUCCESS;
    if (mode == gpu->mig_current)
        RETURN(SUCCESS);
    if (busy)
        *activation = IN_USE;
    else if (model_of(gpu)->architecture < 9)
        *activation = RESET_REQUIRED;
    else {
        gpu->mig_current = mode;
        emit(GPU_OF(device), EVENT_MIG_CONFIG_CHANGE, 0, WHOLE_GPU, WHOLE_GPU);
        gpu_clear(GPU_OF(device));
    }
    RETURN(SUCCESS);
}

/* ------------------------------------------------------------------ GPU instance profiles */

struct gi_profile_info {
    uint32_t id, p2p, slices, instances, multiprocessors, ce, dec, enc, jpeg, ofa;
    uint64_t memory_mib;
};
struct gi_profile_info_v2 {
    uint32_t version, id, p2p, slices, instances, multiprocessors, ce, dec, enc, jpeg, ofa;
    uint64_t memory_mib;
    char name[NAME_SIZE];
};
enum { GI_PROFILE_INFO_V2 = 0x02000098, GI_PROFILE_COUNT = 0x12 };

static const struct profile *profile_by_enumerator(const struct gpu *gpu, uint32_t enumerator)
{
    const struct model *model = model_of(gpu);
    for (uint32_t n = 0; n < model->profile_count; n++)
        if (model->profiles[n].enumerator == enumerator)
            return &model->profiles[n];
    return NULL;
}

static int fill_v2(const struct profile *profile, struct gi_profile_info_v2 *info)
{
    if (info->version != GI_PROFILE_INFO_V2)
        return INVALID_ARGUMENT;
    memset(info, 0, sizeof *info);
    info->version = GI_PROFILE_INFO_V2;
    info->id = profile->id;
    info->slices = profile->compute_slices;
    info->instances = profile->max_instances;
    info->multiprocessors = profile->multiprocessors;
    info->ce = profile->compute_slices;
    info->memory_mib = profile->memory_mib;
    snprintf(info->name, sizeof info->name, "MIG %s", profile->name);
    return SUCCESS;
}

EXPORT int nvmlDeviceGetGpuInstanceProfileInfo(handle_t device, uint32_t enumerator,
                                               struct gi_profile_info *info)
{
    CALL(GPU_OF(device), "gpu=%u enum=%u", GPU_OF(device), enumerator);
    USE_GPU(device);
    REFUSE_IF(info == NULL || enumerator >= GI_PROFILE_COUNT, INVALID_ARGUMENT);
    REFUSE_IF(!gpu->mig_capable, NOT_SUPPORTED);
    const struct profile *profile = profile_by_enumerator(gpu, enumerator);
    REFUSE_IF(profile == NULL, NOT_SUPPORTED);
    struct gi_profile_info_v2 filled = {.version = GI_PROFILE_INFO_V2};
    fill_v2(profile, &filled);
    *info = (struct gi_profile_info){
        filled.id, 0, filled.slices, filled.instances, filled.multiprocessors, filled.ce, 0, 0, 0,
        0, filled.memory_mib};
    RETURN(SUCCESS);
}

EXPORT int nvmlDeviceGetGpuInstanceProfileInfoV(handle_t device, uint32_t enumerator,
                                                struct gi_profile_info_v2 *info)
{
    CALL(GPU_OF(device), "gpu=%u enum=%u", GPU_OF(device), enumerator);
    USE_GPU(device);
    REFUSE_IF(info == NULL || enumerator >= GI_PROFILE_COUNT, INVALID_ARGUMENT);
    REQUIRE_MIG(); /* unlike the first form */
    const struct profile *profile = profile_by_enumerator(gpu, enumerator);
    REFUSE_IF(profile == NULL, NOT_SUPPORTED);
    RETURN(fill_v2(profile, info));
}

EXPORT int nvmlDeviceGetGpuInstanceProfileInfoByIdV(handle_t device, uint32_t id,
                                                    struct gi_profile_info_v2 *info)
{
    CALL(GPU_OF(device), "gpu=%u profile=%u", GPU_OF(device), id);
    USE_GPU(device);
    REFUSE_IF(info == NULL, INVALID_ARGUMENT);
    REQUIRE_MIG();
    const struct profile *profile = profile_by_id(gpu, id);
    REFUSE_IF(profile == NULL, NOT_SUPPORTED);
    RETURN(fill_v2(profile, info));
}

EXPORT int nvmlDeviceGetGpuInstanceRemainingCapacity(handle_t device, uint32_t id, uint32_t *count)
{
    CALL(GPU_OF(device), "gpu=%u profile=%u", GPU_OF(device), id);
    USE_GPU(device);
    REQUIRE_MIG();
    REQUIRE(PRIVILEGE_CONFIG);
    const struct profile *profile = profile_by_id(gpu, id);
    REFUSE_IF(profile == NULL || count == NULL, INVALID_ARGUMENT);
    *count = gi_remaining(gpu, profile);
    RETURN(SUCCESS);
}

/* All that the profile may ever have, whatever is taken; NULL asks for their number alone. */
EXPORT int nvmlDeviceGetGpuInstancePossiblePlacements_v2(handle_t device, uint32_t id,
                                                         struct placement *placements,
                                                         uint32_t *count)
{
    CALL(GPU_OF(device), "gpu=%u profile=%u", GPU_OF(device), id);
    USE_GPU(device);
    REFUSE_IF(!gpu->mig_capable, NOT_SUPPORTED);
    REQUIRE(PRIVILEGE_MONITOR);
    const struct profile *profile = profile_by_id(gpu, id);
    REFUSE_IF(profile == NULL || count == NULL, INVALID_ARGUMENT);
    *count = profile->start_count;
    for (uint32_t n = 0; placements != NULL && n < profile->start_count; n++)
        placements[n] = (struct placement){profile->starts[n], profile->size};
    RETURN(SUCCESS);
}

/* ------------------------------------------------------------------ GPU instances */

EXPORT int nvmlDeviceGetGpuInstances(handle_t device, uint32_t profile_id, handle_t *instances,
                                     uint32_t *count)
{
    CALL(GPU_OF(device), "gpu=%u profile=%u", GPU_OF(device), profile_id);
    USE_GPU(device);
    REQUIRE_MIG();
    REQUIRE(PRIVILEGE_MONITOR);
    REFUSE_IF(profile_by_id(gpu, profile_id) == NULL, INVALID_ARGUMENT);
    REFUSE_IF(instances == NULL || count == NULL, INVALID_ARGUMENT);
    *count = 0; /* only ever written: the caller answers for the buffer's size */
    for (uint32_t gi = 0; gi < MAX_GIS; gi++)
        if (gpu->gi[gi].live && gpu->gi[gi].profile_id == profile_id)
            instances[(*count)++] = gi_handle(GPU_OF(device), gi);
    RETURN(SUCCESS);
}

EXPORT int nvmlDeviceGetGpuInstanceById(handle_t device, uint32_t id, handle_t *instance)
{
    CALL(GPU_OF(device), "gpu=%u gi=%u", GPU_OF(device), id);
    USE_GPU(device);
    REQUIRE_MIG();
    REQUIRE(PRIVILEGE_MONITOR);
    REFUSE_IF(instance == NULL, INVALID_ARGUMENT);
    REFUSE_IF(id >= MAX_GIS || !gpu->gi[id].live, NOT_FOUND);
    *instance = gi_handle(GPU_OF(device), id);
    RETURN(SUCCESS);
}

struct gi_info {
    handle_t device;
    uint32_t id, profile_id;
    struct placement placement;
};

EXPORT int nvmlGpuInstanceGetInfo(handle_t instance, struct gi_info *info)
{
    CALL(GPU_OF(instance), "gpu=%u gi=%u", GPU_OF(instance), GI_OF(instance));
    USE_GI(instance);
    REFUSE_IF(info == NULL, INVALID_ARGUMENT);
    *info = (struct gi_info){device_handle(GPU_OF(instance)), GI_OF(instance), gi->profile_id,
                             {gi->start, gi->size}};
    RETURN(SUCCESS);
}

EXPORT int nvmlDeviceCreateGpuInstanceWithPlacement(handle_t device, uint32_t profile_id,
                                                    const struct placement *placement,
                                                    handle_t *instance)
{
    CALL(GPU_OF(device), "gpu=%u profile=%u start=%u size=%u", GPU_OF(device), profile_id,
         placement ? placement->start : 0, placement ? placement->size : 0);
    USE_GPU(device);
    REFUSE_IF(placement == NULL || instance == NULL || KIND(device) != DEVICE, INVALID_ARGUMENT);
    REQUIRE_MIG();
    REQUIRE(PRIVILEGE_CONFIG);
    uint32_t gi = 0;
    int code = gi_create(GPU_OF(device), profile_id, placement->start, placement->size, &gi);
    if (code == SUCCESS)
        *instance = gi_handle(GPU_OF(device), gi);
    RETURN(code);
}

/* The driver's own choice is its lowest free start; the agent never leaves it to the driver. */
EXPORT int nvmlDeviceCreateGpuInstance(handle_t device, uint32_t profile_id, handle_t *instance)
{
    CALL(GPU_OF(device), "gpu=%u profile=%u", GPU_OF(device), profile_id);
    USE_GPU(device);
    REQUIRE_MIG();
    REQUIRE(PRIVILEGE_CONFIG);
    const struct profile *profile = profile_by_id(gpu, profile_id);
    REFUSE_IF(profile == NULL || instance == NULL || KIND(device) != DEVICE, INVALID_ARGUMENT);
    int code = INSUFFICIENT_RESOURCES;
    for (uint32_t n = 0, gi = 0; code == INSUFFICIENT_RESOURCES && n < profile->start_count; n++) {
        code = gi_create(GPU_OF(device), profile_id, profile->starts[n], profile->size, &gi);
        if (code == SUCCESS)
            *instance = gi_handle(GPU_OF(device), gi);
    }
    RETURN(code);
}

EXPORT int nvmlGpuInstanceDestroy(handle_t instance)
{
    CALL(GPU_OF(instance), "gpu=%u gi=%u", GPU_OF(instance), GI_OF(instance));
    USE_GI(instance);
    (void)gi;
    REQUIRE(PRIVILEGE_CONFIG);
    RETURN(gi_destroy(GPU_OF(instance), GI_OF(instance)));
}
