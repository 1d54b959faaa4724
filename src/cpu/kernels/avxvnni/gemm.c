/* The packed products of this instruction set: gemm_impl.h over its vectors. */
#include "base/half.h"
#include "cpu/kernels.h"
#include "cpu/kernels/vec_avx2.h"

#define KERNEL(name) qrl_avxvnni_##name
extern const qrl_gemm qrl_avxvnni_gemm[QRL_TYPE_COUNT];
#include "cpu/kernels/gemm_impl.h"
