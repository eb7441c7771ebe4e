/* What the tests' own functions have in common. */
#ifndef TANGRAM_FAKE_CONTROL_H
#define TANGRAM_FAKE_CONTROL_H

#include "fake.h"

static inline void unlock_at_end(struct machine **held)
{
    machine = *held;
    machine_unlock();
}

/* Every function works on a machine that fake_open gave, under its lock. */
#define WITH(of)                                                          \
    __attribute__((cleanup(unlock_at_end))) struct machine *held = (of);  \
    machine = held;                                                       \
    machine_lock()

#endif
