/* The kernel's side of vGPUs, for the fake tree of its files (tests/fakes/sysfs). */
#include "control.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* One vGPU of a GPU as the kernel's files show it: {function, gi, type, opened, uuid}. */
struct shown {
    uint32_t function, gi, type, opened;
    char uuid[64];
};

EXPORT uint32_t fake_vgpus(struct machine *of, uint32_t gpu, struct shown *into)
{
    WITH(of);
    uint32_t count = 0;
    for (uint32_t n = 0; n < MAX_VGPUS; n++) {
        const struct vgpu *vgpu = &WORLD->vgpus[n];
        if (!vgpu->live || vgpu->gpu != gpu || vgpu->function == 0)
            continue;
        into[count] = (struct shown){vgpu->function, vgpu->gi, vgpu->type, vgpu->opened, ""};
        memcpy(into[count++].uuid, vgpu->uuid, sizeof vgpu->uuid);
    }
    return count;
}

static struct vgpu *on_function(uint32_t gpu, uint32_t function)
{
    for (uint32_t n = 0; n < MAX_VGPUS; n++)
        if (WORLD->vgpus[n].live && WORLD->vgpus[n].gpu == gpu &&
            WORLD->vgpus[n].function == function)
            return &WORLD->vgpus[n];
    return NULL;
}

/* The driver takes the choice-th of the GPU instances that would do; 0 or an errno is returned. */
EXPORT int fake_vgpu_create(struct machine *of, uint32_t gpu, uint32_t function, uint32_t type,
                            const char *uuid, uint32_t choice)
{
    WITH(of);
    const struct vgpu_type *wanted = vgpu_type_by_id(type, NULL);
    uint32_t fitting[MAX_GIS], count = 0, unused = MAX_VGPUS;
    if (WORLD->gpus[gpu].lost)
        return EIO;
    if (wanted == NULL || function == 0 || function > WORLD->gpus[gpu].functions)
        return EINVAL;
    if (on_function(gpu, function) != NULL)
        return EBUSY;
    for (uint32_t n = 0; n < MAX_VGPUS; n++) {
        if (WORLD->vgpus[n].live && *uuid && strcmp(WORLD->vgpus[n].uuid, uuid) == 0)
            return EEXIST;
        if (!WORLD->vgpus[n].live && unused == MAX_VGPUS)
            unused = n;
    }
    for (uint32_t gi = 0; gi < MAX_GIS; gi++)
        if (vgpu_fits(gpu, gi, wanted))
            fitting[count++] = gi;
    if (count == 0 || unused == MAX_VGPUS)
        return EIO;
    struct vgpu *vgpu = &WORLD->vgpus[unused];
    *vgpu = (struct vgpu){
        .gpu = gpu, .gi = fitting[choice % count], .type = type, .function = function};
    snprintf(vgpu->uuid, sizeof vgpu->uuid, "%s", uuid);
    __atomic_store_n(&vgpu->live, 1, __ATOMIC_SEQ_CST);
    return 0;
}

EXPORT int fake_vgpu_remove(struct machine *of, uint32_t gpu, uint32_t function)
{
    WITH(of);
    struct vgpu *found = on_function(gpu, function);
    if (found == NULL)
        return ENODEV;
    if (found->opened)
        return EBUSY;
    __atomic_store_n(&found->live, 0, __ATOMIC_SEQ_CST);
    return 0;
}

EXPORT int fake_vgpu_open(struct machine *of, uint32_t gpu, uint32_t function, int opened)
{
    WITH(of);
    struct vgpu *found = on_function(gpu, function);
    if (found == NULL)
        return ENODEV;
    found->opened = opened != 0;
    return 0;
}

/* Whether some free GPU instance of the GPU would back a vGPU of the type. */
EXPORT int fake_vgpu_creatable(struct machine *of, uint32_t gpu, uint32_t type)
{
    WITH(of);
    const struct vgpu_type *wanted = vgpu_type_by_id(type, NULL);
    for (uint32_t gi = 0; wanted != NULL && gi < MAX_GIS; gi++)
        if (vgpu_fits(gpu, gi, wanted))
            return 1;
    return 0;
}

EXPORT uint32_t fake_functions(struct machine *of, uint32_t gpu)
{
    WITH(of);
    return WORLD->gpus[gpu].functions;
}

/* Enabling them rebinds the GPU and so ends all that it holds. */
EXPORT void fake_enable_functions(struct machine *of, uint32_t gpu, uint32_t count)
{
    WITH(of);
    gpu_clear(gpu);
    WORLD->gpus[gpu].functions = count;
}

/* What a fault does to a write of the kernel's files: {kind, code, milliseconds}; returns the
 * number that the write has in the call log. */
EXPORT uint64_t fake_take_fault(struct machine *of, const char *symbol, int gpu, uint32_t into[3])
{
    WITH(of);
    struct call call = {.symbol = symbol, .number = ++machine->calls};
    into[2] = 0;
    take_fault(&call, gpu, &into[2]);
    into[0] = call.kind;
    into[1] = call.code;
    return call.number;
}

EXPORT uint64_t fake_releases(struct machine *of)
{
    WITH(of);
    return machine->releases;
}
