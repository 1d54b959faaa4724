/* The kernels of recurrent layers of this instruction set and of avx512vnni and amx, which add nothing to them. */
#include "cpu/kernels/lane_math.h"
#include "cpu/ssm_kernels.h"

#include <string.h>

#include "cpu/kernels/vec_avx512.h"
#include "cpu/kernels/unroll.h"
#define SSM_VECTORS  1
#define KERNEL(name) avx512_##name
#include "cpu/kernels/ssm_impl.h"

const qrl_ssm_kernels qrl_ssm_kernels_avx512 = {
    .conv1d = avx512_conv1d,
    .scan = avx512_scan,
    .scan_own = avx512_scan_own,
    .delta = avx512_delta,
};
