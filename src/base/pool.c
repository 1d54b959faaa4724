#define _GNU_SOURCE
#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How long a waiting thread spins before it sleeps. A decode step has a few hundred parallel loops
 * of 10 to 100 us with gaps of about a microsecond; sleeping in each gap costs a wake-up of some
 * 5 us. 2,000 pauses are about 30 us. With more threads than cores nobody spins. */
enum { SPINS = 2000 };

/* Where a thread sleeps. Whoever clears the flag, the sleeper that finds news after all or the one that wakes
 * it, decides whether there is a post to wait for: so each sleep is ended once, without a lock that a thread
 * which the system does not run could hold up. */
struct bed {
    atomic_bool asleep;
    sem_t post;
};

/* A thread's share of a loop, a cache line that its owner waits at: nothing else is touched by opening a
 * loop, and taking a task of one's own share costs no other core's line. */
struct share {
    /* The loop's number above TASKS; below, how many tasks have not been given out. Whoever takes one away
     * owns that task, and by that knows that the loop goes on: only then may it read the rest. */
    _Alignas(64) _Atomic uint64_t left;
    qrl_task_fn *fn;
    void *context;
    size_t end; /* one behind the last task */
    _Alignas(64) struct bed bed;
};
#define LOOP  ((uint64_t)1 << 40)
#define TASKS (LOOP - 1)

struct worker {
    qrl_pool *pool;
    pthread_t thread;
    int index;
};

/* A thread works through its own share, then takes from the others'. So a worker that the system has not
 * run in time is not waited for: with a core taken away, speed falls by that core and no more. The caller
 * knows that a loop has ended when all tasks that it did not run itself have been counted. */
struct qrl_pool {
    int n_threads;
    int spins;
    struct worker *workers; /* [n_threads]; 0 is the caller and has no thread */
    struct share *shares;   /* [n_threads] */
    uint64_t loop;          /* its number; the caller's alone, like what it expects `done` to become */
    uint64_t expected;
    atomic_int sleepers;                /* workers in bed, who touch this line only when they go there and come back */
    _Alignas(64) _Atomic uint64_t done; /* tasks that workers have run, since the beginning */
    _Alignas(64) atomic_bool stop;
};

static inline void pause_cpu(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Runs tasks of a share until it has none; returns how many. */
static uint64_t drain(struct share *s, int thread) {
    uint64_t n = 0, left = atomic_load_explicit(&s->left, memory_order_relaxed);
    while (left & TASKS) {
        if (!atomic_compare_exchange_weak_explicit(&s->left, &left, left - 1, memory_order_acquire,
                                                   memory_order_relaxed))
            continue;
        s->fn(s->context, s->end - (size_t)(left & TASKS), thread);
        n++;
        left = atomic_load_explicit(&s->left, memory_order_relaxed);
    }
    return n;
}

/* After the flag was set and nothing to do was found. */
static void sleep_in(struct bed *bed) {
    while (sem_wait(&bed->post) != 0) /* a signal came */
        ;
}

/* True: the bed's owner was asleep or about to be, and is not any more. */
static bool get_up(struct bed *bed) {
    return atomic_load(&bed->asleep) && atomic_exchange(&bed->asleep, false);
}

/* Counts what a worker has run, and wakes the caller that may be waiting for it. */
static void count(qrl_pool *p, uint64_t n) {
    if (!n)
        return;
    atomic_fetch_add(&p->done, n);
    if (get_up(&p->shares[0].bed))
        sem_post(&p->shares[0].bed.post);
}

/* A loop other than `seen`, or the end. */
static bool is_news(const qrl_pool *p, const struct share *s, uint64_t seen) {
    return atomic_load(&s->left) / LOOP != seen || atomic_load(&p->stop);
}

/* Waits at the share for news. */
static void wait_start(qrl_pool *p, struct share *s, uint64_t seen) {
    for (int i = 0; i < p->spins; i++) {
        if (is_news(p, s, seen))
            return;
        pause_cpu();
    }
    while (!is_news(p, s, seen)) {
        atomic_store(&s->bed.asleep, true);
        atomic_fetch_add(&p->sleepers, 1);
        if (!is_news(p, s, seen) || !get_up(&s->bed))
            sleep_in(&s->bed);
        atomic_fetch_sub(&p->sleepers, 1);
    }
}

static void *worker_main(void *arg) {
    struct worker *w = arg;
    qrl_pool *p = w->pool;
    struct share *own = &p->shares[w->index];
    for (uint64_t seen = 0;;) {
        wait_start(p, own, seen);
        if (atomic_load(&p->stop))
            return NULL;
        seen = atomic_load(&own->left) / LOOP;
        for (int i = 0; i < p->n_threads; i++)
            count(p, drain(&p->shares[(w->index + i) % p->n_threads], w->index));
    }
}

/* A worker that goes to sleep sets its flag, counts itself, and looks for a loop the last time. Either its
 * counting comes first, and is seen here with the flag, or it sees the loop: an atomic change of the same
 * place, even by nothing, leaves no third. */
static void wake_workers(qrl_pool *p) {
    if (atomic_fetch_add(&p->sleepers, 0) == 0)
        return;
    for (int i = 1; i < p->n_threads; i++)
        if (get_up(&p->shares[i].bed))
            sem_post(&p->shares[i].bed.post);
}

/* Deals the tasks out; the first one is the caller's without asking. */
static void open_loop(qrl_pool *p, size_t n_tasks, qrl_task_fn *fn, void *context) {
    const size_t n = (size_t)p->n_threads, each = n_tasks / n, rest = n_tasks % n;
    const uint64_t loop = ++p->loop % (UINT64_MAX / LOOP) * LOOP;
    for (size_t i = n, end = n_tasks; i-- > 0;) {
        struct share *s = &p->shares[i];
        const size_t size = each + (i < rest);
        s->fn = fn;
        s->context = context;
        s->end = end;
        atomic_store_explicit(&s->left, loop | (size - (i == 0)), memory_order_release);
        end -= size;
    }
}

void qrl_pool_run(qrl_pool *p, size_t n_tasks, qrl_task_fn *fn, void *context) {
    if (p->n_threads == 1 || n_tasks <= 1) {
        for (size_t i = 0; i < n_tasks; i++)
            fn(context, i, 0);
        return;
    }
    open_loop(p, n_tasks, fn, context);
    wake_workers(p);
    fn(context, 0, 0);
    uint64_t own = 1;
    for (int i = 0; i < p->n_threads; i++)
        own += drain(&p->shares[i], 0);
    p->expected += n_tasks - own;
    for (int i = 0; i < p->spins; i++) {
        if (atomic_load(&p->done) == p->expected)
            return;
        pause_cpu();
    }
    for (struct bed *bed = &p->shares[0].bed; atomic_load(&p->done) != p->expected;) {
        atomic_store(&bed->asleep, true);
        if (atomic_load(&p->done) != p->expected || !get_up(bed))
            sleep_in(bed);
    }
}

/* The quota of the control group in cores, rounded up; 0 when there is none. */
static int cgroup_cores(void) {
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (!f)
        return 0;
    long quota, period;
    const int n = fscanf(f, "%ld %ld", &quota, &period);
    fclose(f);
    return n == 2 && quota > 0 && period > 0 ? (int)((quota + period - 1) / period) : 0;
}

int qrl_usable_cores(void) {
    int n = 0;
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        n = CPU_COUNT(&set);
    if (n <= 0)
        n = (int)sysconf(_SC_NPROCESSORS_ONLN);
    const int quota = cgroup_cores();
    if (quota > 0 && quota < n)
        n = quota;
    return n < 1 ? 1 : n > QRL_MAX_THREADS ? QRL_MAX_THREADS : n;
}

qrl_status qrl_pool_create(int n_threads, qrl_pool **out, qrl_error *err) {
    *out = NULL;
    if (n_threads < 0 || n_threads > QRL_MAX_THREADS)
        return qrl_fail(err, QRL_ERR_ARGUMENT, "%d threads asked for; give 0 (one a core) to %d", n_threads,
                        QRL_MAX_THREADS);
    const int cores = qrl_usable_cores();
    if (n_threads == 0)
        n_threads = cores;
    /* aligned_alloc: the counters sit on cache lines of their own */
    qrl_pool *p = aligned_alloc(64, (sizeof *p + 63) / 64 * 64);
    if (!p)
        return qrl_fail_memory(err, "the thread pool", sizeof *p);
    *p = (qrl_pool){.n_threads = 1, .spins = n_threads <= cores ? SPINS : 0};
    const size_t n = (size_t)n_threads;
    p->workers = calloc(n, sizeof *p->workers);
    p->shares = aligned_alloc(64, n * sizeof *p->shares);
    if (!p->workers || !p->shares) {
        qrl_pool_destroy(p);
        return qrl_fail_memory(err, "the thread pool", n * (sizeof *p->workers + sizeof *p->shares));
    }
    memset(p->shares, 0, n * sizeof *p->shares);
    sem_init(&p->shares[0].bed.post, 0, 0);
    for (int i = 1; i < n_threads; i++) {
        sem_init(&p->shares[i].bed.post, 0, 0);
        p->workers[i] = (struct worker){.pool = p, .index = i};
        if (pthread_create(&p->workers[i].thread, NULL, worker_main, &p->workers[i]) != 0) {
            qrl_pool_destroy(p);
            return qrl_fail(err, QRL_ERR_MEMORY, "thread %d of %d could not be started; ask for fewer threads", i + 1,
                            n_threads);
        }
        p->n_threads = i + 1;
    }
    *out = p;
    return QRL_OK;
}

void qrl_pool_destroy(qrl_pool *p) {
    if (!p)
        return;
    atomic_store(&p->stop, true);
    wake_workers(p);
    for (int i = 1; i < p->n_threads; i++)
        pthread_join(p->workers[i].thread, NULL);
    for (int i = 0; p->shares && i < p->n_threads; i++)
        sem_destroy(&p->shares[i].bed.post);
    free(p->shares);
    free(p->workers);
    free(p);
}

int qrl_pool_threads(const qrl_pool *p) {
    return p->n_threads;
}
