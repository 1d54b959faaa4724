/* The prefix cache in a file, from one run to the next.
 *
 * Layout, in the machine's byte order: `head`; then for each node, parents before their children and otherwise the last
 * used first, `entry`, the bytes of its page, and those of its checkpoint where it has one; then a hash of all
 * that. The identity in the head is of the model's file, the types of the cache and this program's version, since
 * another version may compute other bits. Nothing in a file is trusted but the numbers that are cached. */
#include "base/hash.h"
#include "base/map.h"
#include "base/mem.h"
#include "engine/engine_int.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char magic[8] = {'Q', 'R', 'L', 'C', 'A', 'C', 'H', '2'};

typedef struct head {
    char magic[8];
    uint64_t identity;
    uint64_t page_bytes, state_bytes, window_bytes;
    uint32_t n_nodes, n_states, n_windows, zero; /* n_windows: pages of windows, of all checkpoints */
} head;

typedef struct entry {
    uint32_t parent;              /* number of an earlier entry, or QRL_PREFIX_ROOT */
    uint32_t has_state, n_window; /* pages of windows behind the state */
    int32_t tokens[QRL_PAGE];
} entry;

/* What must be the same for the cached numbers to be right. */
static uint64_t identity(const qrl_engine *e) {
    const uint64_t file = qrl_gguf_fingerprint(e->model->gguf);
    const uint32_t types[] = {(uint32_t)e->params.kv_type_k, (uint32_t)e->params.kv_type_v, QRL_PAGE, QRL_KV_LAYOUT};
    uint64_t h = qrl_hash(file, types, sizeof types);
    return qrl_hash(h, qrl_version(), strlen(qrl_version()));
}

static qrl_status io_failed(const char *path, const char *what, qrl_error *err) {
    return qrl_fail(err, QRL_ERR_IO, "%s: the cache cannot be %s: %s", path, what, strerror(errno));
}

/* ---- writing ---- */

typedef struct writer {
    FILE *f;
    uint64_t hash;
    bool failed;
} writer;

static void put(writer *w, const void *data, size_t n) {
    w->hash = qrl_hash(w->hash, data, n);
    w->failed = w->failed || (n && fwrite(data, n, 1, w->f) != 1);
}

/* order: [n_nodes]; number: [pages], of each node, its place in order. */
static void put_nodes(writer *w, const qrl_engine *e, const uint32_t *order, uint32_t *number, uint32_t n_nodes,
                      void *buffer) {
    for (uint32_t i = 0; i < n_nodes && !w->failed; i++) {
        uint32_t parent, page;
        const int32_t *tokens;
        const uint32_t state = qrl_prefix_state(e->prefix, order[i]);
        qrl_prefix_node(e->prefix, order[i], &parent, &page, &tokens);
        number[order[i]] = i;
        entry at = {.parent = parent == QRL_PREFIX_ROOT ? QRL_PREFIX_ROOT : number[parent],
                    .has_state = state != QRL_PREFIX_NO_STATE};
        memcpy(at.tokens, tokens, sizeof at.tokens);
        if (at.has_state && e->window)
            at.n_window = e->n_kept[state];
        put(w, &at, sizeof at);
        qrl_kv_read_page(e->kv, false, page, buffer);
        put(w, buffer, qrl_kv_page_bytes(e->kv, false));
        if (!at.has_state)
            continue;
        qrl_kv_read_state(e->kv, e->checkpoints + state, buffer);
        put(w, buffer, qrl_kv_slot_bytes(e->kv));
        for (uint32_t k = 0; k < at.n_window; k++) {
            qrl_kv_read_page(e->kv, true, e->kept[state * e->window_pages + k], buffer);
            put(w, buffer, qrl_kv_page_bytes(e->kv, true));
        }
    }
}

static size_t buffer_bytes(const qrl_engine *e) {
    size_t most = qrl_kv_slot_bytes(e->kv);
    for (int window = 0; window < 2; window++)
        if (qrl_kv_page_bytes(e->kv, window) > most)
            most = qrl_kv_page_bytes(e->kv, window);
    return most;
}

static qrl_status write_to(const qrl_engine *e, FILE *f, const char *path, qrl_error *err) {
    qrl_prefix_stats stats;
    uint32_t *order, *number;
    char *buffer;
    qrl_prefix_get_stats(e->prefix, &stats);
    const uint32_t n_pages = qrl_page_pool_size(e->pool);
    QRL_TRY(qrl_new_array(&order, (size_t)n_pages * 2, "the cache's order", err));
    number = order + n_pages;
    qrl_status status = qrl_new_array(&buffer, buffer_bytes(e), "a page", err);
    if (status == QRL_OK) {
        writer w = {.f = f, .hash = QRL_HASH_BEGIN};
        head h = {.identity = identity(e),
                  .page_bytes = qrl_kv_page_bytes(e->kv, false),
                  .window_bytes = qrl_kv_page_bytes(e->kv, true),
                  .state_bytes = qrl_kv_slot_bytes(e->kv),
                  .n_nodes = qrl_prefix_nodes(e->prefix, order),
                  .n_states = stats.n_states};
        memcpy(h.magic, magic, sizeof magic);
        for (uint32_t i = 0; i < h.n_nodes && e->window; i++) {
            const uint32_t state = qrl_prefix_state(e->prefix, order[i]);
            h.n_windows += state == QRL_PREFIX_NO_STATE ? 0 : e->n_kept[state];
        }
        put(&w, &h, sizeof h);
        put_nodes(&w, e, order, number, h.n_nodes, buffer);
        const uint64_t hash = w.hash;
        put(&w, &hash, sizeof hash);
        if (w.failed || fflush(f) != 0 || fsync(fileno(f)) != 0)
            status = io_failed(path, "written", err);
    }
    free(buffer);
    free(order);
    return status;
}

qrl_status qrl_cache_file_write(const qrl_engine *e, const char *path, qrl_error *err) {
    if (!e->prefix)
        return qrl_fail(err, QRL_ERR_ARGUMENT, "%s: the engine has no prefix cache that could be written", path);
    qrl_buf name = {0};
    qrl_buf_printf(&name, "%s.%ld.tmp", path, (long)getpid());
    qrl_status status = qrl_buf_status(&name, err);
    if (status == QRL_OK) {
        const int fd = open(name.data, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        FILE *f = fd >= 0 ? fdopen(fd, "wb") : NULL;
        if (f) {
            status = write_to(e, f, path, err);
            if (fclose(f) != 0 && status == QRL_OK)
                status = io_failed(path, "written", err);
            if (status == QRL_OK && rename(name.data, path) != 0)
                status = io_failed(path, "written", err);
        } else {
            status = io_failed(path, "written", err);
            if (fd >= 0)
                close(fd);
        }
        if (status != QRL_OK && fd >= 0)
            unlink(name.data);
    }
    qrl_buf_free(&name);
    return status;
}

/* ---- reading ---- */

static qrl_status broken(const char *path, const char *what, qrl_error *err) {
    return qrl_fail(err, QRL_ERR_FORMAT, "%s: the cache file is broken: %s; delete it, and a new one will be written",
                    path, what);
}

static qrl_status check_head(const qrl_engine *e, const qrl_map *map, const char *path, head *h, qrl_error *err) {
    uint64_t hash = QRL_HASH_BEGIN;
    if (map->size < sizeof *h || memcmp(map->data, magic, sizeof magic) != 0)
        return qrl_fail(err, QRL_ERR_FORMAT, "%s: this is no cache file of quarrel; give another path", path);
    memcpy(h, map->data, sizeof *h);
    if (h->identity != identity(e) || h->page_bytes != qrl_kv_page_bytes(e->kv, false) ||
        h->state_bytes != qrl_kv_slot_bytes(e->kv) || h->window_bytes != qrl_kv_page_bytes(e->kv, true))
        return qrl_fail(
            err, QRL_ERR_FORMAT,
            "%s: the cache is of another model, other cache types or context, or another version of quarrel; "
            "give each its own file, or delete it",
            path);
    size_t nodes, states, windows, size = sizeof *h + sizeof hash;
    if (!qrl_size_mul(h->n_nodes, sizeof(entry) + (size_t)h->page_bytes, &nodes) ||
        !qrl_size_mul(h->n_states, (size_t)h->state_bytes, &states) ||
        !qrl_size_mul(h->n_windows, (size_t)h->window_bytes, &windows) || !qrl_size_add(size, nodes, &size) ||
        !qrl_size_add(size, states, &size) || !qrl_size_add(size, windows, &size) || size != map->size ||
        h->n_states > h->n_nodes)
        return broken(path, "its size is not what its head says", err);
    return QRL_OK;
}

/* A node's checkpoint, when there are pages for its window (half of them stay free). */
static void take_checkpoint(qrl_engine *e, uint32_t node, const unsigned char *from, const head *h, uint32_t n_window) {
    if (n_window && qrl_page_pool_free(e->window_pool) < qrl_page_pool_size(e->window_pool) / 2 + n_window)
        return;
    if (qrl_prefix_state(e->prefix, node) != QRL_PREFIX_NO_STATE)
        return;
    const uint32_t state = qrl_prefix_give_state(e->prefix, node, QRL_PREFIX_ROOT);
    qrl_kv_write_state(e->kv, e->checkpoints + state, from);
    from += h->state_bytes;
    for (uint32_t k = 0; k < n_window; k++, from += h->window_bytes) {
        uint32_t *page = &e->kept[state * e->window_pages + k];
        if (qrl_page_take(e->window_pool, page))
            qrl_kv_write_page(e->kv, true, *page, from);
        e->n_kept[state] = k + 1;
    }
}

/* Entry i; fills in its depth. */
static bool is_fine(const qrl_engine *e, const entry *it, uint32_t i, uint32_t *depths) {
    if (it->has_state > 1 || (it->parent != QRL_PREFIX_ROOT && it->parent >= i))
        return false;
    for (int t = 0; t < QRL_PAGE; t++)
        if (it->tokens[t] < 0 || (uint32_t)it->tokens[t] >= e->model->hparams.n_vocab)
            return false;
    depths[i] = 1 + (it->parent == QRL_PREFIX_ROOT ? 0 : depths[it->parent]);
    const uint32_t most = it->has_state ? e->window_pages : 0; /* 0 where there is no window */
    return it->n_window == (depths[i] < most ? depths[i] : most);
}

/* Takes the entries into the cache as far as there are pages, and checkpoints, for them. */
static qrl_status take_nodes(qrl_engine *e, const qrl_map *map, const char *path, const head *h, uint32_t *nodes,
                             qrl_error *err) {
    /* nodes: [2 n_nodes]: the nodes, and how many pages stand up to their ends */
    const unsigned char *at = map->data + sizeof *h, *end = map->data + map->size - sizeof(uint64_t);
    uint64_t hash = qrl_hash(QRL_HASH_BEGIN, h, sizeof *h), wanted;
    uint32_t n_states = 0, n_windows = 0, n = 0, *const depths = nodes + h->n_nodes;
    for (uint32_t i = 0; i < h->n_nodes; i++) {
        entry it;
        memcpy(&it, at, sizeof it); /* the sizes of all entries were checked, those of the checkpoints are counted */
        if (!is_fine(e, &it, i, depths))
            return broken(path, "an entry is not what it should be", err);
        n_states += it.has_state;
        n_windows += it.n_window;
        if (n_states > h->n_states || n_windows > h->n_windows)
            return broken(path, "there are more checkpoints than its head says", err);
        hash = qrl_hash(hash, at, sizeof it);
        at += sizeof it;
        hash = qrl_hash(hash, at, (size_t)h->page_bytes);
        uint32_t page, node = it.parent == QRL_PREFIX_ROOT ? QRL_PREFIX_ROOT : nodes[it.parent];
        const bool there = i == n && qrl_page_take(e->pool, &page);
        if (there) {
            qrl_kv_write_page(e->kv, false, page, at);
            const uint32_t kept = qrl_prefix_insert(e->prefix, it.tokens, page, &node);
            qrl_page_drop(e->pool, kept);
            nodes[n++] = node;
        }
        at += h->page_bytes;
        if (!it.has_state)
            continue;
        const unsigned char *const state = at;
        hash = qrl_hash(hash, at, (size_t)h->state_bytes);
        at += h->state_bytes;
        for (uint32_t k = 0; k < it.n_window; k++, at += h->window_bytes)
            hash = qrl_hash(hash, at, (size_t)h->window_bytes);
        if (there && n_states <= e->params.n_checkpoints)
            take_checkpoint(e, node, state, h, it.n_window);
    }
    memcpy(&wanted, end, sizeof wanted);
    if (at != end || hash != wanted)
        return broken(path, "its content does not match its checksum", err);
    for (uint32_t i = n; i-- > 0;) /* the last used first again */
        qrl_prefix_touch(e->prefix, nodes[i]);
    return QRL_OK;
}

qrl_status qrl_cache_file_read(qrl_engine *e, const char *path, qrl_error *err) {
    qrl_map map;
    head h;
    uint32_t *nodes = NULL;
    if (e->model->arch_set)
        return qrl_fail(err, QRL_ERR_UNSUPPORTED,
                        "%s: a cache file cannot be kept for a model whose architecture comes from a file", path);
    if (access(path, F_OK) != 0 && errno == ENOENT)
        return QRL_OK;
    QRL_TRY(qrl_map_open(path, &map, err));
    qrl_status status = check_head(e, &map, path, &h, err);
    if (status == QRL_OK)
        status = qrl_new_array(&nodes, 2 * (size_t)h.n_nodes, "the cache's order", err);
    if (status == QRL_OK)
        status = take_nodes(e, &map, path, &h, nodes, err);
    free(nodes);
    qrl_map_close(&map);
    return status;
}
