/* Panels by tiles of 16 rows of activations, in tile registers (AMX; Intel 64 manual, volume 1, chapter 18). One
 * instruction multiplies 16 rows of a unit by 16 rows of weights; its sums have scales of their own, so they leave
 * through memory, and vectors do the rest.
 *
 * No step waits for the one before: while unit k is multiplied, k + 1 is loaded, the sums of k - 1 are stored, and
 * those of k - 2 are weighed. Registers 0 and 1 hold sums, 4 and 5 activations and weights, 6 and 7 the next ones. Sums
 * begin at MAGIC, so that as floats they read MAGIC_FLOAT + sum, or MAGIC_FLOAT - sum of what is negated (gemm_impl.h);
 * the panel's bytes are signed, and nothing has to be made up for. */
enum { TILE_BYTES = QRL_QACT_BYTES(TILE), PANEL_HALF = QRL_GROUP * QRL_UNIT };

static void begin_tiles(void) {
    /* activations: 32 values of 16 rows; weights: 8 chunks, each 4 values of 16 rows */
    static const tile_shapes shapes = {
        .palette = 1, .colsb = {64, 64, 0, 0, 32, 64, 32, 64}, .rows = {16, 16, 0, 0, 16, 8, 16, 8}};
    _tile_loadconfig(&shapes);
}

static void end_tiles(void) {
    _tile_release();
}

/* Registers are part of the instructions, so `odd`, the parity of a step, has to be a constant. Strides and addresses
 * that never change are OPAQUE: they cost nothing to make again, and gcc would rather carry them through the loop in
 * vectors. */
INLINE void load_factors(int odd, const unsigned char *activations, const unsigned char *weights) {
    long act_stride = QRL_UNIT, weight_stride = 4 * QRL_GROUP;
    OPAQUE(act_stride);
    OPAQUE(weight_stride);
    if (odd) {
        _tile_loadd(6, activations, act_stride);
        _tile_loadd(7, weights, weight_stride);
    } else {
        _tile_loadd(4, activations, act_stride);
        _tile_loadd(5, weights, weight_stride);
    }
}

INLINE void multiply(int odd) {
    _Alignas(64) static const int32_t magic[QRL_GROUP] = {MAGIC, MAGIC, MAGIC, MAGIC, MAGIC, MAGIC, MAGIC, MAGIC,
                                                          MAGIC, MAGIC, MAGIC, MAGIC, MAGIC, MAGIC, MAGIC, MAGIC};
    const int32_t *from = magic;
    long stride = 0; /* every row the same */
    OPAQUE(from);
    OPAQUE(stride);
    if (odd) {
        _tile_loadd(1, from, stride);
        _tile_dpbssd(1, 6, 7);
    } else {
        _tile_loadd(0, from, stride);
        _tile_dpbssd(0, 4, 5);
    }
}

INLINE void keep_sums(int odd, int32_t (*out)[QRL_GROUP]) {
    long stride = sizeof *out;
    OPAQUE(out);
    OPAQUE(stride);
    if (odd)
        _tile_stored(1, out, stride);
    else
        _tile_stored(0, out, stride);
}

/* The factors to come: the units by the panel's first half of rows, then by the second, and so on. For an odd n
 * the last of them twice, so that parity changes with every step; what that gives is left alone. */
typedef struct tile_walk {
    const unsigned char *tile, *panel; /* of the first unit */
    const unsigned char *activations, *weights;
    size_t n, u;
} tile_walk;

INLINE void go_on(tile_walk *w) {
    if (++w->u < w->n) {
        w->activations += TILE_BYTES;
        w->weights += 2 * PANEL_HALF;
    } else if (w->u % 2 == 0) {
        w->u = 0;
        w->activations = w->tile;
        w->weights = w->panel + PANEL_HALF;
    }
}

/* Multiplies a step, having loaded what comes after it. */
INLINE void multiply_step(tile_walk *w, int odd) {
    go_on(w);
    load_factors(!odd, w->activations, w->weights);
    multiply(odd);
}

/* A unit's sums by 16 rows of weights from r on, with their scales to acc, and where has_min its minima (those of
 * stepped types come at the superblock's end, see add_superblock). */
INLINE void weigh_sums(int planes, qrl_head head, const qrl_panel *p, size_t u, size_t r, const unsigned char *unit,
                       int32_t (*sums)[QRL_GROUP], vf *acc) {
    const int whole = multiplied(planes, head), half_d = qrl_head_f16(head);
    const int has_min = qrl_head_has_min(head) && !qrl_head_stepped(head);
    const vf magic = vf_set(MAGIC_FLOAT);
    const vf scale = vf_load(p->scale[u][0] + r), base = vf_load(p->base[u] + r), min = vf_load(p->min[u][0] + r);
    UNROLL
    for (size_t t = 0; t < TILE; t++) {
        const vf sum = vf_load((const float *)(const void *)sums[t]);
        const vf y = whole ? vf_sub(magic, sum) : half_d ? vf_fma(sum, scale, base) : vf_mul(vf_sub(sum, magic), scale);
        acc[t] = vf_fma(y, vf_bcast(QRL_QACT_D(unit, TILE) + 4 * t), acc[t]);
        if (has_min)
            acc[t] = vf_fnma(min, vf_bcast(QRL_QACT_S(unit, TILE, 0) + 4 * t), acc[t]);
    }
}

/* A panel of one sum a unit by a tile: as qrl_product_fn. */
INLINE void product_by_tiles(int planes, qrl_head head, const qrl_panel *p, size_t n, const unsigned char *tile,
                             const unsigned char *next, float *acc_out, size_t ld, bool first) {
    /* what a unit of the next tile is asked for: its values, their scales and where it matters their sums */
    enum { WANTED = TILE * (QRL_UNIT + 8) };
    const int stepped = qrl_head_stepped(head);
    const unsigned char *panel = p->q[0][0];
    const size_t end = (n + 1) / 2 * 4;
    tile_walk w = {tile, panel, tile, panel, n, 0};
    _Alignas(64) int32_t sums[2][TILE][QRL_GROUP]; /* [k % 2] */
    load_factors(0, tile, panel);
    multiply_step(&w, 0);
    multiply_step(&w, 1);
    keep_sums(0, sums[0]);
    for (size_t r = 0, k = 2; r < QRL_PANEL_ROWS; r += QRL_GROUP) {
        vf acc[TILE];
        OPAQUE(ld); /* or its multiples would take the registers of the loop */
        UNROLL
        for (size_t t = 0; t < TILE; t++)
            acc[t] = first || stepped ? vf_zero() : vf_load(acc_out + t * ld + r);
        for (size_t u = 0; u < n; u += 2) {
            UNROLL
            for (size_t odd = 0; odd < 2; odd++, k++) {
                if (k < end)
                    multiply_step(&w, (int)odd);
                if (k <= end)
                    keep_sums(!odd, sums[!odd]);
                if (r == 0)
                    UNROLL
                for (size_t b = 0; b < WANTED; b += 64)
                    __builtin_prefetch(next + (u + odd) * TILE_BYTES + b);
                if (u + odd < n)
                    weigh_sums(planes, head, p, u + odd, r, tile + (u + odd) * TILE_BYTES, sums[odd], acc);
            }
        }
        OPAQUE(ld);
        if (stepped) {
            add_superblock(head, p, n, tile, 0, TILE / 2, r, 1, acc, acc_out, ld, first);
            add_superblock(head, p, n, tile, TILE / 2, TILE / 2, r, 1, acc + TILE / 2, acc_out, ld, first);
            continue;
        }
        UNROLL
        for (size_t t = 0; t < TILE; t++)
            vf_store(acc_out + t * ld + r, acc[t]);
    }
}
