/* quarrel devices: what can compute here: the processor with its instruction sets, caches and memory. */
#include "cli.h"

#include "base/pool.h"
#include "json.h"
#include "term.h"

#include <string.h>
#include <unistd.h>

typedef struct cache {
    int level;
    char type[16]; /* "Data", "Instruction", "Unified" */
    uint64_t bytes;
} cache;

enum { MAX_CACHES = 8 };

typedef struct machine {
    long cores_online;                       /* hardware threads that the system runs */
    int cores_usable;                        /* of them, what affinity and cgroup leave to this process */
    uint64_t memory_total, memory_available; /* bytes; 0: unknown */
    cache caches[MAX_CACHES];                /* of the first core */
    int n_caches;
} machine;

/* The first line of a small file; false when there is none. */
static bool read_line(const char *path, char *out, int size) {
    FILE *f = fopen(path, "re");
    const bool ok = f && fgets(out, size, f);
    if (f)
        fclose(f);
    if (ok)
        out[strcspn(out, "\n")] = 0;
    return ok;
}

/* /sys/devices/system/cpu/cpu0/cache/indexN: Documentation/ABI/testing/sysfs-devices-system-cpu */
static void read_caches(machine *m) {
    for (int i = 0; i < MAX_CACHES; i++) {
        char path[128], level[16], size[32];
        cache *k = &m->caches[m->n_caches];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/level", i);
        if (!read_line(path, level, sizeof level))
            return;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/type", i);
        if (!read_line(path, k->type, sizeof k->type))
            return;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
        unsigned kib;
        if (!read_line(path, size, sizeof size) || sscanf(level, "%d", &k->level) != 1 ||
            sscanf(size, "%uK", &kib) != 1)
            return;
        k->bytes = (uint64_t)kib * 1024;
        m->n_caches++;
    }
}

/* /proc/meminfo, proc(5) */
static void read_memory(machine *m) {
    FILE *f = fopen("/proc/meminfo", "re");
    char line[256];
    while (f && fgets(line, sizeof line, f)) {
        unsigned long long kib;
        if (sscanf(line, "MemTotal: %llu kB", &kib) == 1)
            m->memory_total = kib * 1024;
        else if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
            m->memory_available = kib * 1024;
    }
    if (f)
        fclose(f);
}

static void print_text(const cli *c, const machine *m, qrl_isa chosen) {
    char a[CLI_FORMAT_SIZE], b[CLI_FORMAT_SIZE];
    const char *bold = cli_color(c, c->out, CLI_BOLD), *plain = cli_color(c, c->out, CLI_PLAIN);
    fprintf(c->out, "%scpu%s  %s\n", bold, plain, qrl_cpu_name());
    fprintf(c->out, "  cores    %d usable of %ld\n", m->cores_usable, m->cores_online);
    fprintf(c->out, "  isa      ");
    for (qrl_isa i = 0; i < QRL_ISA_COUNT; i = qrl_isa_next(i))
        fprintf(c->out, "%s%s%s", i > 0 ? ", " : "", qrl_isa_name(i), i == chosen ? " (used)" : "");
    const char *before = "; not on this processor: ";
    for (qrl_isa i = 0; i < QRL_ISA_COUNT; i++)
        if (!qrl_isa_here(i)) {
            fprintf(c->out, "%s%s", before, qrl_isa_name(i));
            before = ", ";
        }
    fprintf(c->out, "\n  caches   ");
    for (int i = 0; i < m->n_caches; i++)
        fprintf(c->out, "%sL%d %s %s", i > 0 ? ", " : "", m->caches[i].level, m->caches[i].type,
                cli_format_bytes(a, m->caches[i].bytes));
    fprintf(c->out, "%s\n  memory   %s, %s available\n", m->n_caches == 0 ? "unknown" : "",
            cli_format_bytes(a, m->memory_total), cli_format_bytes(b, m->memory_available));
    fprintf(c->out, "%sgpu%s  none: this build has no GPU backend\n", bold, plain);
}

static void print_json(const cli *c, const machine *m, qrl_isa chosen) {
    cli_json j;
    cli_json_begin(&j, c->out);
    cli_json_object(&j, NULL);
    cli_json_object(&j, "cpu");
    cli_json_text(&j, "name", qrl_cpu_name());
    cli_json_int(&j, "cores_usable", m->cores_usable);
    cli_json_int(&j, "cores_online", m->cores_online);
    cli_json_text(&j, "isa", qrl_isa_name(chosen));
    cli_json_array_inline(&j, "isa_available");
    for (qrl_isa i = 0; i < QRL_ISA_COUNT; i = qrl_isa_next(i))
        cli_json_text(&j, NULL, qrl_isa_name(i));
    cli_json_end_array(&j);
    cli_json_array(&j, "caches");
    for (int i = 0; i < m->n_caches; i++) {
        cli_json_object(&j, NULL);
        cli_json_int(&j, "level", m->caches[i].level);
        cli_json_text(&j, "type", m->caches[i].type);
        cli_json_uint(&j, "bytes", m->caches[i].bytes);
        cli_json_end_object(&j);
    }
    cli_json_end_array(&j);
    cli_json_uint(&j, "memory_bytes", m->memory_total);
    cli_json_uint(&j, "memory_available_bytes", m->memory_available);
    cli_json_end_object(&j);
    cli_json_array(&j, "gpus");
    cli_json_end_array(&j);
    cli_json_end_object(&j);
}

static int run(cli *c) {
    qrl_error err;
    qrl_isa chosen;
    if (cli_isa(c, &chosen, &err) != QRL_OK)
        return cli_fail_error(c, &err);
    machine m = {.cores_online = sysconf(_SC_NPROCESSORS_ONLN), .cores_usable = qrl_usable_cores()};
    read_caches(&m);
    read_memory(&m);
    if (cli_flag(c, CLI_OPT_JSON))
        print_json(c, &m, chosen);
    else
        print_text(c, &m, chosen);
    return CLI_EXIT_OK;
}

const cli_command cli_cmd_devices = {
    .name = "devices",
    .summary = "list what can compute here: processor, instruction sets, caches, memory",
    .run = run,
    .examples = {{"quarrel devices", "the one marked \"used\" is what --isa auto takes"}},
};
