/* For kernels whose accumulators must live in registers. */
#ifndef QRL_CPU_UNROLL_H
#define QRL_CPU_UNROLL_H

#define INLINE static inline __attribute__((always_inline))
/* Loops over constants must unroll, or the accumulators would live in memory. */
#if defined(QRL_EMULATED) /* tests/emulate: they do, and the vectors are no registers */
#define UNROLL
#define UNROLL4
#elif defined(__clang__)
#define UNROLL  _Pragma("unroll")
#define UNROLL4 _Pragma("unroll 4")
#else
#define UNROLL  _Pragma("GCC unroll 16")
#define UNROLL4 _Pragma("GCC unroll 4")
#endif
#ifdef QRL_EMULATED
#define KEEP(v) (void)(v)
#define PIN(v)  (void)(v)
#else
/* v is in a register here, and sums before and after do not mix: gcc would make trees of long integer sums,
 * whose leaves then fill the stack. */
#define KEEP(v) __asm__ volatile("" : "+v"(v))
/* The same, but other instructions may pass. Attention over Q8_0, a page of 32 rows of 64 dimensions on AVX2: 2.50 us,
 * with KEEP 2.57, with neither 2.79. */
#define PIN(v)  __asm__("" : "+v"(v))
#endif
/* An integer of which the compiler knows nothing from here on. */
#define OPAQUE(i) __asm__ volatile("" : "+r"(i))

#endif
