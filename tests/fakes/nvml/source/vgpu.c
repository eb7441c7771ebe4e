/* The vGPU host's side: which types a GPU offers, and which vGPUs run. */
#include "fake.h"

#include <stdio.h>
#include <string.h>

enum { HOST_VGPU = 3, SRIOV = 1 };

#define REQUIRE_HOST() REFUSE_IF(gpu->virtualization != HOST_VGPU, NOT_SUPPORTED)

const struct vgpu_type *vgpu_type_by_id(uint32_t id, uint32_t *model)
{
    for (uint32_t m = 0; m < MODEL_COUNT; m++)
        for (uint32_t n = 0; n < MODELS[m].vgpu_type_count; n++)
            if (MODELS[m].vgpu_types[n].id == id) {
                if (model != NULL)
                    *model = m;
                return &MODELS[m].vgpu_types[n];
            }
    return NULL;
}

/* Count, then fill: too little room is an error that says how much is needed. */
static int fill(const uint32_t *found, uint32_t number, uint32_t *count, uint32_t *ids)
{
    uint32_t room = *count;
    *count = number;
    if (number == 0)
        return SUCCESS;
    if (ids == NULL || room < number)
        return INSUFFICIENT_SIZE;
    memcpy(ids, found, number * sizeof *ids);
    return SUCCESS;
}

static uint32_t seats_taken(uint32_t gpu, uint32_t gi)
{
    uint32_t taken = 0;
    for (uint32_t n = 0; n < MAX_VGPUS; n++)
        taken += WORLD->vgpus[n].live && WORLD->vgpus[n].gpu == gpu && WORLD->vgpus[n].gi == gi;
    return taken;
}

static bool creatable_in(const struct gpu *gpu, uint32_t gi, const struct vgpu_type *type)
{
    return gpu->gi[gi].live && gpu->gi[gi].profile_id == type->profile_id &&
           seats_taken(gpu_index(gpu), gi) < type->max_per_instance;
}

bool vgpu_fits(uint32_t gpu, uint32_t gi, const struct vgpu_type *type)
{
    return creatable_in(&WORLD->gpus[gpu], gi, type);
}

EXPORT int nvmlDeviceGetVirtualizationMode(handle_t device, uint32_t *mode)
{
    CALL(GPU_OF(device), "gpu=%u", GPU_OF(device));
    USE_GPU(device);
    REFUSE_IF(mode == NULL, INVALID_ARGUMENT);
    *mode = gpu->virtualization;
    RETURN(SUCCESS);
}

EXPORT int nvmlDeviceGetHostVgpuMode(handle_t device, uint32_t *mode)
{
    CALL(GPU_OF(device), "gpu=%u", GPU_OF(device));
    USE_GPU(device);
    REFUSE_IF(mode == NULL, INVALID_ARGUMENT);
    REQUIRE_HOST();
    *mode = SRIOV;
    RETURN(SUCCESS);
}

EXPORT int nvmlDeviceGetSupportedVgpus(handle_t device, uint32_t *count, uint32_t *ids)
{
    CALL(GPU_OF(device), "gpu=%u", GPU_OF(device));
    USE_GPU(device);
    REFUSE_IF(count == NULL, INVALID_ARGUMENT);
    REQUIRE_HOST();
    uint32_t all[256], number = 0;
    for (; number < model_of(gpu)->vgpu_type_count; number++)
        all[number] = model_of(gpu)->vgpu_types[number].id;
    RETURN(fill(all, number, count, ids));
}

EXPORT int nvmlDeviceGetCreatableVgpus(handle_t device, uint32_t *count, uint32_t *ids)
{
    CALL(GPU_OF(device), "gpu=%u", GPU_OF(device));
    USE_GPU(device);
    REFUSE_IF(count == NULL, INVALID_ARGUMENT);
    REQUIRE_HOST();
    uint32_t all[256], number = 0;
    for (uint32_t n = 0; n < model_of(gpu)->vgpu_type_count; n++)
        for (uint32_t gi = 0; gi < MAX_GIS; gi++)
            if (creatable_in(gpu, gi, &model_of(gpu)->vgpu_types[n])) {
                all[number++] = model_of(gpu)->vgpu_types[n].id;
                break;
            }
    RETURN(fill(all, number, count, ids));
}

EXPORT int nvmlDeviceGetActiveVgpus(handle_t device, uint32_t *count, uint32_t *ids)
{
    CALL(GPU_OF(device), "gpu=%u", GPU_OF(device));
    USE_GPU(device);
    REFUSE_IF(count == NULL, INVALID_ARGUMENT);
    REQUIRE_HOST();
    uint32_t all[MAX_VGPUS], number = 0;
    for (uint32_t n = 0; n < MAX_VGPUS; n++)
        if (WORLD->vgpus[n].live && WORLD->vgpus[n].opened &&
            WORLD->vgpus[n].gpu == gpu_index(gpu))
            all[number++] = n + 1;
    RETURN(fill(all, number, count, ids));
}

/* ------------------------------------------------------------------ types */

#define USE_TYPE(id)                                             \
    const struct vgpu_type *type = vgpu_type_by_id((id), NULL);  \
    REFUSE_IF(type == NULL, INVALID_ARGUMENT)

static int copy_sized(char *buffer, uint32_t *size, const char *text)
{
    uint32_t room = *size;
    *size = (uint32_t)strlen(text) + 1;
    return copy_string(buffer, room, text);
}

EXPORT int nvmlVgpuTypeGetName(uint32_t id, char *name, uint32_t *size)
{
    CALL(-1, "type=%u", id);
    USE_TYPE(id);
    REFUSE_IF(size == NULL, INVALID_ARGUMENT);
    RETURN(copy_sized(name, size, type->name));
}

EXPORT int nvmlVgpuTypeGetClass(uint32_t id, char *name, uint32_t *size)
{
    CALL(-1, "type=%u", id);
    USE_TYPE(id);
    REFUSE_IF(size == NULL, INVALID_ARGUMENT);
    /* The series is the last capital before "ME", if any: C compute, Q workstation, A, B. */
    size_t end = strlen(type->name);
    if (end > 2 && strcmp(type->name + end - 2, "ME") == 0)
        end -= 2;
    RETURN(copy_sized(name, size, type->name[end - 1] == 'C' ? "Compute" : "Quadro"));
}

EXPORT int nvmlVgpuTypeGetGpuInstanceProfileId(uint32_t id, uint32_t *profile_id)
{
    CALL(-1, "type=%u", id);
    USE_TYPE(id);
    REFUSE_IF(profile_id == NULL, INVALID_ARGUMENT);
    *profile_id = type->profile_id;
    RETURN(SUCCESS);
}

EXPORT int nvmlVgpuTypeGetMaxInstances(handle_t device, uint32_t id, uint32_t *count)
{
    CALL(GPU_OF(device), "gpu=%u type=%u", GPU_OF(device), id);
    USE_GPU(device);
    USE_TYPE(id);
    REFUSE_IF(count == NULL, INVALID_ARGUMENT);
    REQUIRE_HOST();
    const struct profile *profile = profile_by_id(gpu, type->profile_id);
    REFUSE_IF(profile == NULL, NOT_SUPPORTED);
    *count = profile->max_instances * type->max_per_instance;
    RETURN(SUCCESS);
}

struct max_instance {
    uint32_t version, type, count;
};

EXPORT int nvmlVgpuTypeGetMaxInstancesPerGpuInstance(struct max_instance *info)
{
    CALL(-1, "type=%u", info ? info->type : 0);
    REFUSE_IF(info == NULL || info->version != 0x100000c, INVALID_ARGUMENT);
    USE_TYPE(info->type);
    info->count = type->max_per_instance;
    RETURN(SUCCESS);
}

/* ------------------------------------------------------------------ running vGPUs */

#define USE_VGPU(id)                                                                       \
    struct vgpu *vgpu = (id) - 1u < MAX_VGPUS ? &WORLD->vgpus[(id) - 1u] : NULL;           \
    REFUSE_IF(vgpu == NULL || !vgpu->live, INVALID_ARGUMENT);                              \
    REFUSE_IF(WORLD->gpus[vgpu->gpu].lost, GPU_IS_LOST)

EXPORT int nvmlVgpuInstanceGetGpuInstanceId(uint32_t id, uint32_t *gi)
{
    CALL(-1, "vgpu=%u", id);
    USE_VGPU(id);
    REFUSE_IF(gi == NULL, INVALID_ARGUMENT);
    *gi = vgpu->gi;
    RETURN(SUCCESS);
}

EXPORT int nvmlVgpuInstanceGetType(uint32_t id, uint32_t *type)
{
    CALL(-1, "vgpu=%u", id);
    USE_VGPU(id);
    REFUSE_IF(type == NULL, INVALID_ARGUMENT);
    *type = vgpu->type;
    RETURN(SUCCESS);
}

EXPORT int nvmlVgpuInstanceGetUUID(uint32_t id, char *uuid, uint32_t size)
{
    CALL(-1, "vgpu=%u", id);
    USE_VGPU(id);
    RETURN(copy_string(uuid, size, vgpu->uuid));
}

EXPORT int nvmlVgpuInstanceGetMdevUUID(uint32_t id, char *uuid, uint32_t size)
{
    CALL(-1, "vgpu=%u", id);
    USE_VGPU(id);
    RETURN(copy_string(uuid, size, vgpu->uuid));
}

/* Both structures of lists: { version, count, ids }. */
struct id_list {
    uint32_t version, count;
    uint32_t *ids;
};
enum { ID_LIST_V1 = 0x1000010 };

EXPORT int nvmlGpuInstanceGetCreatableVgpus(handle_t instance, struct id_list *list)
{
    CALL(GPU_OF(instance), "gpu=%u gi=%u", GPU_OF(instance), GI_OF(instance));
    USE_GI(instance);
    (void)gi;
    REFUSE_IF(list == NULL || list->version != ID_LIST_V1, INVALID_ARGUMENT);
    REQUIRE_HOST();
    uint32_t all[256], number = 0;
    for (uint32_t n = 0; n < model_of(gpu)->vgpu_type_count; n++)
        if (creatable_in(gpu, GI_OF(instance), &model_of(gpu)->vgpu_types[n]))
            all[number++] = model_of(gpu)->vgpu_types[n].id;
    RETURN(fill(all, number, &list->count, list->ids));
}

EXPORT int nvmlGpuInstanceGetActiveVgpus(handle_t instance, struct id_list *list)
{
    CALL(GPU_OF(instance), "gpu=%u gi=%u", GPU_OF(instance), GI_OF(instance));
    USE_GI(instance);
    (void)gi;
    REFUSE_IF(list == NULL || list->version != ID_LIST_V1, INVALID_ARGUMENT);
    REQUIRE_HOST();
    uint32_t all[MAX_VGPUS], number = 0;
    for (uint32_t n = 0; n < MAX_VGPUS; n++) {
        const struct vgpu *vgpu = &WORLD->vgpus[n];
        if (vgpu->live && vgpu->opened && vgpu->gpu == GPU_OF(instance) &&
            vgpu->gi == GI_OF(instance))
            all[number++] = n + 1;
    }
    RETURN(fill(all, number, &list->count, list->ids));
}
