/* What this processor can do, and the instruction sets Quarrel has kernels for. */
#ifndef QRL_BASE_CPU_H
#define QRL_BASE_CPU_H

#include "base/status.h"

/* Ascending: each includes the ones before it, but for AVXVNNI, which some with AVX-512 lack. All give the same bits
 * (docs/numerics.md). */
typedef enum qrl_isa {
    QRL_ISA_SCALAR = 0,
    QRL_ISA_AVX2,       /* AVX2, FMA, F16C */
    QRL_ISA_AVXVNNI,    /* and AVX-VNNI: int8 dot products of 256 bits */
    QRL_ISA_AVX512,     /* AVX-512 F, BW, DQ, VL */
    QRL_ISA_AVX512VNNI, /* and VNNI: int8 dot products of 512 bits */
    QRL_ISA_AMX,        /* and AMX: tile registers of int8 products */
    QRL_ISA_COUNT
} qrl_isa;

/* Whether this processor and operating system support the set. */
bool qrl_isa_here(qrl_isa isa);
/* The last set that is here. */
qrl_isa qrl_isa_best(void);
/* The first set after this one that is here, or QRL_ISA_COUNT. */
qrl_isa qrl_isa_next(qrl_isa isa);
/* "scalar", "avx2", "avx-vnni", "avx512", "avx512-vnni", "amx" */
const char *qrl_isa_name(qrl_isa isa);
/* From a name; "auto" and NULL are the best. "avx512" takes VNNI where it is present. Fails with the
 * list of names, or when this processor lacks the set. */
qrl_status qrl_isa_parse(const char *name, qrl_isa *out, qrl_error *err);
/* The processor's own name for itself, or "unknown". Static storage. */
const char *qrl_cpu_name(void);

#endif
