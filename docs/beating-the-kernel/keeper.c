// keeper FILE PROCS_FILE BEHIND(none|cold|pageout) LAG AHEAD THREADS PERIOD_US  < ranges "offset length"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#define CHUNK (2ul << 20)
#define MADV_COLD_ 20
#define MADV_PAGEOUT_ 21
static char *own; static size_t size; static long chunks;
static uint8_t *held; static int32_t *next_of; static atomic_int *wanted; // wanted: ahead request pending
static int pidfd = -1, pagemap = -1; static uintptr_t target; 
static long stats_behind, stats_seen, stats_fail; static atomic_long stats_ahead;
static volatile sig_atomic_t ended;
static void on_term(int s) { (void)s; ended = 1; }
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec * 1e-9; }

static int find_target(const char *procs, const struct stat *st) {
    FILE *f = fopen(procs, "r"); if (!f) return 0; long pid; char path[64], line[1024];
    while (fscanf(f, "%ld", &pid) == 1) {
        if (pid == getpid()) continue;
        snprintf(path, sizeof path, "/proc/%ld/maps", pid);
        FILE *m = fopen(path, "r"); if (!m) continue;
        while (fgets(line, sizeof line, m)) {
            unsigned long a, b, off, ino; unsigned ma, mi; char perm[8];
            if (sscanf(line, "%lx-%lx %7s %lx %x:%x %lu", &a, &b, perm, &off, &ma, &mi, &ino) == 7 && ino == st->st_ino && b - a >= (64ul << 20)) {
                target = a - off; pidfd = syscall(SYS_pidfd_open, pid, 0);
                snprintf(path, sizeof path, "/proc/%ld/pagemap", pid); pagemap = open(path, O_RDONLY);
                fclose(m); fclose(f); return pidfd >= 0 && pagemap >= 0;
            }
        }
        fclose(m);
    }
    fclose(f); return 0;
}
static int mapped_in_target(long chunk) {
    uint64_t entry = 0; uintptr_t at = target + chunk * CHUNK + CHUNK / 2;
    if (pread(pagemap, &entry, 8, at / 4096 * 8) != 8) return -1;
    return entry >> 63;
}
static int advise(long chunk, int advice) {
    size_t length = CHUNK; if ((chunk + 1) * CHUNK > size) length = size - chunk * CHUNK;
    struct iovec v = {(void *)(target + chunk * CHUNK), length};
    return syscall(SYS_process_madvise, pidfd, &v, 1, advice, 0) < 0 ? -1 : 0;
}
// ahead: a ring of chunks to touch
#define RING 256
static long ring[RING]; static atomic_ulong ring_head; static unsigned long ring_tail; static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; static pthread_cond_t some = PTHREAD_COND_INITIALIZER;
static void want(long chunk) { pthread_mutex_lock(&lock); if (ring_head - ring_tail < RING) { ring[ring_head++ % RING] = chunk; pthread_cond_signal(&some); } pthread_mutex_unlock(&lock); }
static void *toucher(void *unused) {
    (void)unused;
    for (;;) {
        pthread_mutex_lock(&lock); while (ring_tail == ring_head) pthread_cond_wait(&some, &lock);
        long chunk = ring[ring_tail++ % RING]; pthread_mutex_unlock(&lock);
        volatile char *p = own + chunk * CHUNK; (void)*p; 
        madvise(own + chunk * CHUNK, CHUNK, MADV_DONTNEED); atomic_fetch_add(&stats_ahead, 1); wanted[chunk] = 0;
    }
    return NULL;
}
int main(int argc, char **argv) {
    const char *behind = argv[3]; long lag = atol(argv[4]), ahead = atol(argv[5]), threads = atol(argv[6]), period = atol(argv[7]);
    struct sigaction sa = {.sa_handler = on_term}; sigaction(SIGTERM, &sa, NULL);
    int file = open(argv[1], O_RDONLY); struct stat st; fstat(file, &st); size = st.st_size; chunks = (size + CHUNK - 1) / CHUNK;
    // aligned to 2 MiB so that pages of that size can be mapped
    own = mmap(NULL, size, PROT_READ, MAP_SHARED, file, 0); madvise(own, size, MADV_HUGEPAGE);
    held = calloc(chunks, 1); next_of = malloc(chunks * 4); wanted = calloc(chunks, sizeof *wanted);
    for (long i = 0; i < chunks; i++) next_of[i] = i + 1 < chunks ? i + 1 : -1;
    unsigned long off, len, locked = 0;
    while (scanf("%lu %lu", &off, &len) == 2)
        for (long i = (off + CHUNK / 2) / CHUNK; i < (long)((off + len + CHUNK / 2) / CHUNK) && i < chunks; i++) held[i] = 1;
    for (long i = 0; i < chunks; i++) if (held[i]) {
        size_t l = (i + 1) * CHUNK > size ? size - i * CHUNK : CHUNK;
        if (mlock(own + i * CHUNK, l)) { fprintf(stderr, "mlock: %s\n", strerror(errno)); return 1; } locked += l; }
    for (long i = 0; i < chunks; i++) if (!held[i]) madvise(own + i * CHUNK, CHUNK, MADV_DONTNEED);
    setpriority(PRIO_PROCESS, 0, -20);
    printf("ready %lu\n", locked); fflush(stdout);
    int advice = !strcmp(behind, "cold") ? MADV_COLD_ : !strcmp(behind, "pageout") ? MADV_PAGEOUT_ : 0;
    while (!ended && !find_target(argv[2], &st)) usleep(20000);
    for (long i = 0; i < threads; i++) { pthread_t t; pthread_create(&t, NULL, toucher, NULL); }
    uint8_t *was = calloc(chunks, 1); long *fifo = malloc(sizeof(long) * chunks * 2); unsigned long head = 0, tail = 0; long last = -1; double begin = now(); struct rusage ru;
    long passes = 0;
    while (!ended) {
        long fresh = 0;
        for (long i = 0; i < chunks && !ended; i++) {
            if (held[i]) continue;
            int m = mapped_in_target(i); if (m < 0) { ended = 1; break; }
            if (m && !was[i]) {
                fresh++; stats_seen++; 
                if (head - tail < (unsigned long)chunks * 2) fifo[head++ % (chunks * 2)] = i;
                if (last >= 0 && i != last) next_of[last] = i; 
                last = i;
            }
            was[i] = m;
        }
        passes++;
        if (fresh && ahead) { long at = last; for (long k = 0, n = 0; n < ahead && k < 64 && at >= 0; k++) { at = next_of[at]; if (at < 0) break; if (held[at]) { continue; } n++; if (!was[at] && !wanted[at]) { wanted[at] = 1; want(at); } } }
        while (advice && head - tail > (unsigned long)lag) { long c = fifo[tail++ % (chunks * 2)]; if (advise(c, advice)) stats_fail++; stats_behind++; if (advice == MADV_PAGEOUT_) was[c] = 0; }
        usleep(period);
    }
    getrusage(RUSAGE_SELF, &ru);
    fprintf(stderr, "keeper: locked %lu MB, seen %ld, behind %ld (failed %ld), ahead %ld, passes %ld, cpu %.2f s of %.2f\n", locked >> 20, stats_seen, stats_behind, stats_fail, (long)stats_ahead, passes, ru.ru_utime.tv_sec + ru.ru_stime.tv_sec + (ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) * 1e-6, now() - begin);
    return 0;
}
