/* NVML: compute instances, and the MIG devices that they are. */
#include "fake.h"

#include <stdio.h>

/* ------------------------------------------------------------------ compute instances */

struct ci_profile_info {
    uint32_t id, slices, instances, multiprocessors, ce, dec, enc, jpeg, ofa;
};
struct ci_profile_info_v2 {
    uint32_t version;
    struct ci_profile_info info;
    char name[NAME_SIZE];
};
enum { CI_PROFILE_INFO_V2 = 0x02000088, CI_PROFILE_COUNT = 9 };

static int ci_profile_info(const struct gpu *gpu, const struct gpu_instance *gi, uint32_t enumerator,
                           uint32_t engine, struct ci_profile_info *info)
{
    struct ci_profile found;
    if (enumerator >= CI_PROFILE_COUNT || engine != 0)
        return INVALID_ARGUMENT;
    if (!ci_profile(gpu, gi->profile_id, enumerator, &found))
        return NOT_SUPPORTED;
    uint32_t slices = slices_of(gpu, gi);
    *info = (struct ci_profile_info){enumerator, found.slices, slices / found.slices,
                                     found.multiprocessors, slices, 0, 0, 0, 0};
    return SUCCESS;
}

EXPORT int nvmlGpuInstanceGetComputeInstanceProfileInfo(handle_t instance, uint32_t enumerator,
                                                        uint32_t engine,
                                                        struct ci_profile_info *info)
{
    CALL(GPU_OF(instance), "gpu=%u gi=%u enum=%u", GPU_OF(instance), GI_OF(instance), enumerator);
    USE_GI(instance);
    REQUIRE(PRIVILEGE_MONITOR);
    REFUSE_IF(info == NULL, INVALID_ARGUMENT);
    RETURN(ci_profile_info(gpu, gi, enumerator, engine, info));
}

EXPORT int nvmlGpuInstanceGetComputeInstanceProfileInfoV(handle_t instance, uint32_t enumerator,
                                                         uint32_t engine,
                                                         struct ci_profile_info_v2 *info)
{
    CALL(GPU_OF(instance), "gpu=%u gi=%u enum=%u", GPU_OF(instance), GI_OF(instance), enumerator);
    USE_GI(instance);
    REQUIRE(PRIVILEGE_MONITOR);
    REFUSE_IF(info == NULL, INVALID_ARGUMENT);
    REFUSE_IF(info->version != CI_PROFILE_INFO_V2, INVALID_ARGUMENT);
    int code = ci_profile_info(gpu, gi, enumerator, engine, &info->info);
    if (code == SUCCESS && info->info.slices == slices_of(gpu, gi))
        snprintf(info->name, NAME_SIZE, "MIG %s", profile_by_id(gpu, gi->profile_id)->name);
    else if (code == SUCCESS)
        snprintf(info->name, NAME_SIZE, "MIG %uc.%s", info->info.slices,
                 profile_by_id(gpu, gi->profile_id)->name);
    RETURN(code);
}

EXPORT int nvmlGpuInstanceGetComputeInstancePossiblePlacements(handle_t instance, uint32_t profile,
                                                               struct placement *placements,
                                                               uint32_t *count)
{
    CALL(GPU_OF(instance), "gpu=%u gi=%u profile=%u", GPU_OF(instance), GI_OF(instance), profile);
    USE_GI(instance);
    REQUIRE(PRIVILEGE_MONITOR);
    struct ci_profile found;
    REFUSE_IF(count == NULL, INVALID_ARGUMENT);
    REFUSE_IF(!ci_profile(gpu, gi->profile_id, profile, &found), NOT_SUPPORTED);
    *count = slices_of(gpu, gi) / found.slices;
    for (uint32_t n = 0; placements != NULL && n < *count; n++)
        placements[n] = (struct placement){n * found.slices, found.slices};
    RETURN(SUCCESS);
}

EXPORT int nvmlGpuInstanceGetComputeInstanceRemainingCapacity(handle_t instance, uint32_t profile,
                                                              uint32_t *count)
{
    CALL(GPU_OF(instance), "gpu=%u gi=%u profile=%u", GPU_OF(instance), GI_OF(instance), profile);
    USE_GI(instance);
    REQUIRE(PRIVILEGE_CONFIG);
    struct ci_profile found;
    REFUSE_IF(count == NULL, INVALID_ARGUMENT);
    REFUSE_IF(!ci_profile(gpu, gi->profile_id, profile, &found), NOT_SUPPORTED);
    *count = 0;
    for (uint32_t at = 0; at + found.slices <= slices_of(gpu, gi); at += found.slices)
        *count += !ci_overlaps(gi, at, found.slices);
    RETURN(SUCCESS);
}

EXPORT int nvmlGpuInstanceCreateComputeInstance(handle_t instance, uint32_t profile,
                                                handle_t *compute)
{
    CALL(GPU_OF(instance), "gpu=%u gi=%u profile=%u", GPU_OF(instance), GI_OF(instance), profile);
    USE_GI(instance);
    (void)gi;
    REQUIRE(PRIVILEGE_CONFIG);
    REFUSE_IF(compute == NULL, INVALID_ARGUMENT);
    uint32_t ci = 0;
    int code = ci_create(GPU_OF(instance), GI_OF(instance), profile, -1, &ci);
    if (code == SUCCESS)
        *compute = ci_handle(COMPUTE_INSTANCE, GPU_OF(instance), GI_OF(instance), ci);
    RETURN(code);
}

EXPORT int nvmlGpuInstanceCreateComputeInstanceWithPlacement(handle_t instance, uint32_t profile,
                                                             const struct placement *placement,
                                                             handle_t *compute)
{
    CALL(GPU_OF(instance), "gpu=%u gi=%u profile=%u start=%u", GPU_OF(instance), GI_OF(instance),
         profile, placement ? placement->start : 0);
    USE_GI(instance);
    (void)gi;
    REQUIRE(PRIVILEGE_CONFIG);
    REFUSE_IF(compute == NULL || placement == NULL, INVALID_ARGUMENT);
    uint32_t ci = 0;
    int start = (int)placement->start;
    int code = ci_create(GPU_OF(instance), GI_OF(instance), profile, start, &ci);
    if (code == SUCCESS)
        *compute = ci_handle(COMPUTE_INSTANCE, GPU_OF(instance), GI_OF(instance), ci);
    RETURN(code);
}

EXPORT int nvmlGpuInstanceGetComputeInstances(handle_t instance, uint32_t profile,
                                              handle_t *instances, uint32_t *count)
{
    CALL(GPU_OF(instance), "gpu=%u gi=%u profile=%u", GPU_OF(instance), GI_OF(instance), profile);
    USE_GI(instance);
    REQUIRE(PRIVILEGE_MONITOR);
    struct ci_profile found;
    REFUSE_IF(instances == NULL || count == NULL, INVALID_ARGUMENT);
    REFUSE_IF(!ci_profile(gpu, gi->profile_id, profile, &found), NOT_SUPPORTED);
    *count = 0;
    for (uint32_t ci = 0; ci < MAX_CIS; ci++)
        if (gi->ci[ci].live && gi->ci[ci].profile == profile)
            instances[(*count)++] =
                ci_handle(COMPUTE_INSTANCE, GPU_OF(instance), GI_OF(instance), ci);
    RETURN(SUCCESS);
}

EXPORT int nvmlGpuInstanceGetComputeInstanceById(handle_t instance, uint32_t id, handle_t *compute)
{
    CALL(GPU_OF(instance), "gpu=%u gi=%u ci=%u", GPU_OF(instance), GI_OF(instance), id);
    USE_GI(instance);
    REQUIRE(PRIVILEGE_MONITOR);
    REFUSE_IF(compute == NULL, INVALID_ARGUMENT);
    REFUSE_IF(id >= MAX_CIS || !gi->ci[id].live, NOT_FOUND);
    *compute = ci_handle(COMPUTE_INSTANCE, GPU_OF(instance), GI_OF(instance), id);
    RETURN(SUCCESS);
}

/* What both a compute instance's and a MIG device's functions begin with. */
#define USE_CI(of)                                                \
    struct compute_instance *ci = find_ci(of);                    \
    REFUSE_IF(ci == NULL, INVALID_ARGUMENT);                      \
    REFUSE_IF(WORLD->gpus[GPU_OF(of)].lost, GPU_IS_LOST)

struct ci_info {
    handle_t device, gpu_instance;
    uint32_t id, profile;
    struct placement placement;
};

EXPORT int nvmlComputeInstanceGetInfo_v2(handle_t compute, struct ci_info *info)
{
    CALL(GPU_OF(compute), "gpu=%u gi=%u ci=%u", GPU_OF(compute), GI_OF(compute), CI_OF(compute));
    USE_CI(compute);
    REFUSE_IF(info == NULL || KIND(compute) != COMPUTE_INSTANCE, INVALID_ARGUMENT);
    uint32_t gpu = GPU_OF(compute), gi = GI_OF(compute);
    *info = (struct ci_info){ci_handle(MIG_DEVICE, gpu, gi, CI_OF(compute)), gi_handle(gpu, gi),
                             CI_OF(compute), ci->profile, {ci->start, ci->size}};
    RETURN(SUCCESS);
}

EXPORT int nvmlComputeInstanceDestroy(handle_t compute)
{
    CALL(GPU_OF(compute), "gpu=%u gi=%u ci=%u", GPU_OF(compute), GI_OF(compute), CI_OF(compute));
    USE_CI(compute);
    (void)ci;
    REFUSE_IF(KIND(compute) != COMPUTE_INSTANCE, INVALID_ARGUMENT);
    REQUIRE(PRIVILEGE_CONFIG);
    RETURN(ci_destroy(GPU_OF(compute), GI_OF(compute), CI_OF(compute)));
}

/* ------------------------------------------------------------------ MIG devices */

EXPORT int nvmlDeviceGetMaxMigDeviceCount(handle_t device, uint32_t *count)
{
    CALL(GPU_OF(device), "gpu=%u", GPU_OF(device));
    USE_GPU(device);
    REFUSE_IF(count == NULL, INVALID_ARGUMENT);
    *count = gpu->mig_current ? model_of(gpu)->compute_slices : 0;
    RETURN(SUCCESS);
}

/* An index belongs to a compute instance for its life, so destroying one leaves a hole. */
EXPORT int nvmlDeviceGetMigDeviceHandleByIndex(handle_t device, uint32_t index, handle_t *mig)
{
    CALL(GPU_OF(device), "gpu=%u index=%u", GPU_OF(device), index);
    USE_GPU(device);
    REQUIRE_MIG();
    REFUSE_IF(mig == NULL || index >= model_of(gpu)->compute_slices, INVALID_ARGUMENT);
    for (uint32_t gi = 0; gi < MAX_GIS; gi++)
        for (uint32_t ci = 0; gpu->gi[gi].live && ci < MAX_CIS; ci++)
            if (gpu->gi[gi].ci[ci].live && gpu->gi[gi].ci[ci].mig_index == index) {
                *mig = ci_handle(MIG_DEVICE, GPU_OF(device), gi, ci);
                RETURN(SUCCESS);
            }
    RETURN(NOT_FOUND);
}

EXPORT int nvmlDeviceIsMigDeviceHandle(handle_t device, uint32_t *is_mig)
{
    CALL(GPU_OF(device), "gpu=%u", GPU_OF(device));
    REFUSE_IF(is_mig == NULL || find_gpu(device) == NULL, INVALID_ARGUMENT);
    *is_mig = KIND(device) == MIG_DEVICE;
    RETURN(SUCCESS);
}

EXPORT int nvmlDeviceGetGpuInstanceId(handle_t device, uint32_t *id)
{
    CALL(GPU_OF(device), "gpu=%u", GPU_OF(device));
    REFUSE_IF(KIND(device) != MIG_DEVICE, NOT_SUPPORTED);
    USE_CI(device);
    (void)ci;
    REFUSE_IF(id == NULL, INVALID_ARGUMENT);
    *id = GI_OF(device);
    RETURN(SUCCESS);
}

EXPORT int nvmlDeviceGetComputeInstanceId(handle_t device, uint32_t *id)
{
    CALL(GPU_OF(device), "gpu=%u", GPU_OF(device));
    REFUSE_IF(KIND(device) != MIG_DEVICE, NOT_SUPPORTED);
    USE_CI(device);
    (void)ci;
    REFUSE_IF(id == NULL, INVALID_ARGUMENT);
    *id = CI_OF(device);
    RETURN(SUCCESS);
}

EXPORT int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle_t mig, handle_t *device)
{
    CALL(GPU_OF(mig), "gpu=%u", GPU_OF(mig));
    USE_CI(mig);
    (void)ci;
    REFUSE_IF(device == NULL || KIND(mig) != MIG_DEVICE, INVALID_ARGUMENT);
    *device = device_handle(GPU_OF(mig));
    RETURN(SUCCESS);
}
