/* A libnvidia-ml.so.1 without a GPU: GPUs whose power over time is written in a text file, so that the true energy is known.
 *
 * The file is named by SLMPERF_FAKE_NVML and read again whenever it changes, so a test can raise the power, unplug a
 * device or reset a counter while another process measures.  Without the variable nvmlInit says that no driver is loaded.
 * The file's words are described in driver.py, which writes it.
 */
#include <fcntl.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <pthread.h>

#define MAX_GPUS 16
#define MAX_STEPS 4096
#define MAX_FAILS 32
#define MAX_SPANS 32
#define MAX_SLICES 8
#define MAX_PROCS 32

enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, SMALL = 7, NO_DRIVER = 9 };

typedef struct { char symbol[64]; int code; long after; double at; long times; } Fail;
typedef struct { unsigned field; double from, to, share; } Span;
typedef struct {
    char name[96], uuid[96], pci[32];
    double tick, phase, jitter, update, avg, avg_long, offset, limit, default_limit, unit, temp, util, slice_gib;
    double perturb_gap, perturb_w;
    int steps, clocks, fails, spans, slices, procs, resets;
    double t[MAX_STEPS], w[MAX_STEPS], joules[MAX_STEPS];
    double clock_t[MAX_STEPS], clock_mhz[MAX_STEPS];
    Fail fail[MAX_FAILS];
    Span span[MAX_SPANS];
    double reset[MAX_SPANS];
    char slice[MAX_SLICES][96];
    unsigned proc[MAX_PROCS];
} Gpu;

static Gpu gpus[MAX_GPUS];
static int gpu_count;
static char driver[64];
static int64_t zero_ns;
static volatile int64_t *virtual_ns;
static struct stat seen;
static int initialised;
static Fail global_fail[MAX_FAILS];
static int global_fails;
/* calls made, per GPU (the last row: no GPU) and symbol; kept when the file is read again */
static struct { char symbol[64]; long calls[MAX_GPUS + 1], failed[MAX_GPUS + 1]; } counts[64];
static int count_rows;
static double last_poll[MAX_GPUS], extra_j[MAX_GPUS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static Gpu *blank(int index) {
    Gpu *gpu = &gpus[index];
    memset(gpu, 0, sizeof *gpu);
    snprintf(gpu->name, sizeof gpu->name, "Fake GPU");
    snprintf(gpu->uuid, sizeof gpu->uuid, "GPU-fa4e0000-0000-0000-0000-%012d", index);
    snprintf(gpu->pci, sizeof gpu->pci, "00000000:%02X:00.0", index + 1);
    gpu->tick = 0.1;
    gpu->update = -1;
    gpu->avg = 0.025;
    gpu->avg_long = 1.0;
    gpu->limit = 700;
    gpu->offset = 12345.701;
    gpu->temp = 40;
    gpu->util = 97;
    gpu->slice_gib = 80;
    return gpu;
}

static void map_clock(const char *path) {
    static char mapped[448];
    static volatile int64_t *page_of_mapped;
    if (!strcmp(mapped, path)) { virtual_ns = page_of_mapped; return; }
    int fd = open(path, O_RDONLY);
    if (fd < 0) return;
    void *page = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (page == MAP_FAILED) return;
    virtual_ns = page_of_mapped = page;
    snprintf(mapped, sizeof mapped, "%s", path);
}

static void parse_fail(Fail *list, int *count, const char *rest) {
    char symbol[64], when[16];
    int code;
    double amount;
    long times = -1;
    if (*count < MAX_FAILS && sscanf(rest, "%63s %d %15s %lf %ld", symbol, &code, when, &amount, &times) >= 4) {
        Fail *fail = &list[(*count)++];
        snprintf(fail->symbol, sizeof fail->symbol, "%s", symbol);
        fail->code = code;
        fail->after = strcmp(when, "after") == 0 ? (long)amount : -1;
        fail->at = strcmp(when, "at") == 0 ? amount : INFINITY;
        fail->times = times;
    }
}

static void finish(Gpu *gpu) {
    if (gpu->update < 0) gpu->update = gpu->tick;
    for (int k = 1; k < gpu->steps; k++)
        gpu->joules[k] = gpu->joules[k - 1] + gpu->w[k - 1] * (gpu->t[k] - gpu->t[k - 1]);
}

static int load(void) {
    const char *path = getenv("SLMPERF_FAKE_NVML");
    struct stat now;
    if (!path || !*path || stat(path, &now) != 0) { gpu_count = 0; memset(&seen, 0, sizeof seen); return 0; }
    if (now.st_ino == seen.st_ino && now.st_size == seen.st_size && now.st_mtim.tv_sec == seen.st_mtim.tv_sec &&
        now.st_mtim.tv_nsec == seen.st_mtim.tv_nsec)
        return 1;
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    char line[512], word[64], rest[448];
    Gpu *gpu = NULL;
    gpu_count = 0;
    global_fails = 0;
    virtual_ns = NULL;
    snprintf(driver, sizeof driver, "570.00.fake");
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        rest[0] = 0;
        if (sscanf(line, "%63s %447[^\n]", word, rest) < 1) continue;
        double a = 0, b = 0, c = 0, d = 0;
        sscanf(rest, "%lf %lf %lf %lf", &a, &b, &c, &d);
        if (!strcmp(word, "zero")) zero_ns = strtoll(rest, NULL, 10);
        else if (!strcmp(word, "virtual")) map_clock(rest);
        else if (!strcmp(word, "driver")) snprintf(driver, sizeof driver, "%.63s", rest);
        else if (!strcmp(word, "gpu")) { if (gpu) finish(gpu); if (gpu_count < MAX_GPUS) gpu = blank(gpu_count++); }
        else if (!gpu && !strcmp(word, "fail")) parse_fail(global_fail, &global_fails, rest);
        else if (!gpu) continue;
        else if (!strcmp(word, "name")) snprintf(gpu->name, sizeof gpu->name, "%.95s", rest);
        else if (!strcmp(word, "uuid")) snprintf(gpu->uuid, sizeof gpu->uuid, "%.95s", rest);
        else if (!strcmp(word, "tick")) gpu->tick = a;
        else if (!strcmp(word, "phase")) gpu->phase = a;
        else if (!strcmp(word, "jitter")) gpu->jitter = a;
        else if (!strcmp(word, "update")) gpu->update = a;
        else if (!strcmp(word, "avg")) gpu->avg = a;
        else if (!strcmp(word, "avg_long")) gpu->avg_long = a;
        else if (!strcmp(word, "offset")) gpu->offset = a;
        else if (!strcmp(word, "limit")) gpu->limit = a;
        else if (!strcmp(word, "default_limit")) gpu->default_limit = a;
        else if (!strcmp(word, "unit")) gpu->unit = a;
        else if (!strcmp(word, "temp")) gpu->temp = a;
        else if (!strcmp(word, "util")) gpu->util = a;
        else if (!strcmp(word, "slice_gib")) gpu->slice_gib = a;
        else if (!strcmp(word, "perturb")) { gpu->perturb_gap = a; gpu->perturb_w = b; }
        else if (!strcmp(word, "step") && gpu->steps < MAX_STEPS) { gpu->t[gpu->steps] = a; gpu->w[gpu->steps++] = b; }
        else if (!strcmp(word, "sm_clock") && gpu->clocks < MAX_STEPS) { gpu->clock_t[gpu->clocks] = a; gpu->clock_mhz[gpu->clocks++] = b; }
        else if (!strcmp(word, "throttle") && gpu->spans < MAX_SPANS) gpu->span[gpu->spans++] = (Span){(unsigned)a, b, c, d};
        else if (!strcmp(word, "reset") && gpu->resets < MAX_SPANS) gpu->reset[gpu->resets++] = a;
        else if (!strcmp(word, "slice") && gpu->slices < MAX_SLICES) snprintf(gpu->slice[gpu->slices++], 96, "%.95s", rest);
        else if (!strcmp(word, "process") && gpu->procs < MAX_PROCS) gpu->proc[gpu->procs++] = (unsigned)a;
        else if (!strcmp(word, "fail")) parse_fail(gpu->fail, &gpu->fails, rest);
    }
    if (gpu) finish(gpu);
    fclose(file);
    seen = now;
    return 1;
}

static double now_s(void) {
    if (virtual_ns) return (double)(*virtual_ns - zero_ns) / 1e9;
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)((int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec - zero_ns) / 1e9;
}

static int64_t wall_us(double t) {
    if (virtual_ns) return (int64_t)(zero_ns / 1000 + t * 1e6);
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    return (int64_t)wall.tv_sec * 1000000 + wall.tv_nsec / 1000 - (int64_t)((now_s() - t) * 1e6);
}

static double energy_at(const Gpu *gpu, double t) {
    if (!gpu->steps) return 0;
    int low = 0, high = gpu->steps - 1;
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (gpu->t[middle] <= t) low = middle; else high = middle - 1;
    }
    return gpu->joules[low] + gpu->w[low] * (t - gpu->t[low]);
}

static double wobble(long k) { /* in -1 … 1, the same for the same tick */
    uint64_t x = (uint64_t)k * 0x9E3779B97F4A7C15u;
    x ^= x >> 31; x *= 0xBF58476D1CE4E5B9u; x ^= x >> 29;
    return (double)(x >> 11) / (double)(1ull << 52) - 1.0;
}

static double last_tick(const Gpu *gpu, double t) {
    long k = (long)floor((t - gpu->phase) / gpu->tick) + 1;
    for (;; k--) {
        double tick = gpu->phase + (double)k * gpu->tick + gpu->jitter * wobble(k);
        if (tick <= t) return tick;
    }
}

static double counter_j(const Gpu *gpu, double t) {
    double tick = last_tick(gpu, t), base = -gpu->offset;
    for (int k = 0; k < gpu->resets; k++)
        if (gpu->reset[k] <= t) {
            base = energy_at(gpu, gpu->reset[k]);
            if (tick < gpu->reset[k]) return 0;
        }
    return energy_at(gpu, tick) - base;
}

static double power_w(const Gpu *gpu, double t, double avg) {
    double s = floor((t - gpu->phase) / gpu->update) * gpu->update + gpu->phase;
    if (avg < 1e-6) avg = 1e-6;
    return (energy_at(gpu, s) - energy_at(gpu, s - avg)) / avg;
}

static int row_of(const char *symbol) {
    for (int k = 0; k < count_rows; k++) if (!strcmp(counts[k].symbol, symbol)) return k;
    if (count_rows >= 64) return 63;
    snprintf(counts[count_rows].symbol, sizeof counts[0].symbol, "%s", symbol);
    return count_rows++;
}

static int failing(const Fail *list, int fails, const char *symbol, int row, int column, double t) {
    for (int k = 0; k < fails; k++) {
        const Fail *fail = &list[k];
        if (strcmp(fail->symbol, symbol) && strcmp(fail->symbol, "*")) continue;
        if (fail->after >= 0 ? counts[row].calls[column] <= fail->after : t < fail->at) continue;
        if (fail->times >= 0 && counts[row].failed[column] >= fail->times) continue;
        counts[row].failed[column]++;
        return fail->code;
    }
    return OK;
}

/* Handles: a GPU is its address; a MIG slice is GPU address + 1 + slot (inside the struct, so unique). */
static Gpu *gpu_of(void *handle, int *slot) {
    *slot = -1;
    for (int k = 0; k < gpu_count; k++) {
        char *base = (char *)&gpus[k], *h = handle;
        if (h == base) return &gpus[k];
        if (h > base && h <= base + MAX_SLICES) { *slot = (int)(h - base) - 1; return &gpus[k]; }
    }
    return NULL;
}

static int enter(const char *symbol, void *handle, Gpu **gpu, int *slot) {
    int known = load();
    if (!initialised) return UNINITIALIZED;
    if (!known) return 999;
    int column = MAX_GPUS, row = row_of(symbol), local;
    if (gpu) {
        *gpu = gpu_of(handle, slot ? slot : &local);
        if (!*gpu) return INVALID;
        column = (int)(*gpu - gpus);
    }
    counts[row].calls[column]++;
    double t = now_s();
    int code = failing(global_fail, global_fails, symbol, row, column, t);
    return code || !gpu ? code : failing((*gpu)->fail, (*gpu)->fails, symbol, row, column, t);
}

#define BEGIN(symbol) pthread_mutex_lock(&lock); int rc = enter(symbol, NULL, NULL, NULL)
#define BEGIN_GPU(symbol) pthread_mutex_lock(&lock); Gpu *gpu = NULL; int slot = -1; int rc = enter(symbol, handle, &gpu, &slot)
#define END pthread_mutex_unlock(&lock); return rc
#define WHOLE if (rc == OK && slot >= 0) rc = NOT_SUPPORTED /* a slice has no energy, power or clock of its own */

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    pthread_mutex_lock(&lock);
    int rc = load() ? OK : NO_DRIVER;
    if (rc == OK) {
        int row = row_of("nvmlInitWithFlags");
        counts[row].calls[MAX_GPUS]++;
        rc = failing(global_fail, global_fails, "nvmlInitWithFlags", row, MAX_GPUS, now_s());
    }
    if (rc == OK) initialised++;
    END;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { pthread_mutex_lock(&lock); int rc = initialised ? OK : UNINITIALIZED; if (initialised) initialised--; END; }
const char *nvmlErrorString(int code) { static char text[32]; snprintf(text, sizeof text, "fake NVML error %d", code); return text; }

static int say(char *out, unsigned size, const char *text) {
    if (strlen(text) + 1 > size) return SMALL;
    memcpy(out, text, strlen(text) + 1);
    return OK;
}
int nvmlSystemGetDriverVersion(char *out, unsigned n) { BEGIN("nvmlSystemGetDriverVersion"); if (!rc) rc = say(out, n, driver); END; }
int nvmlSystemGetNVMLVersion(char *out, unsigned n) { BEGIN("nvmlSystemGetNVMLVersion"); if (!rc) rc = say(out, n, "12.570"); END; }
int nvmlSystemGetCudaDriverVersion(int *out) { BEGIN("nvmlSystemGetCudaDriverVersion"); if (!rc) *out = 12080; END; }
int nvmlSystemGetCudaDriverVersion_v2(int *out) { return nvmlSystemGetCudaDriverVersion(out); }
int nvmlDeviceGetCount_v2(unsigned *out) { BEGIN("nvmlDeviceGetCount_v2"); if (!rc) *out = (unsigned)gpu_count; END; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **out) {
    BEGIN("nvmlDeviceGetHandleByIndex_v2");
    if (!rc && index >= (unsigned)gpu_count) rc = INVALID;
    for (int k = 0; !rc && k < gpus[index].fails; k++) /* by its own name alone: a GPU lost while it runs was opened */
        if (!strcmp(gpus[index].fail[k].symbol, "nvmlDeviceGetHandleByIndex_v2")) rc = gpus[index].fail[k].code;
    if (!rc) *out = &gpus[index];
    END;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, void **out) {
    BEGIN("nvmlDeviceGetHandleByUUID");
    int found = 0;
    for (int k = 0; !rc && k < gpu_count; k++) {
        if (!strcmp(gpus[k].uuid, uuid)) { *out = &gpus[k]; found = 1; }
        for (int s = 0; s < gpus[k].slices; s++)
            if (!strcmp(gpus[k].slice[s], uuid)) { *out = (char *)&gpus[k] + 1 + s; found = 1; }
    }
    if (!rc && !found) rc = NOT_FOUND;
    END;
}
int nvmlDeviceGetHandleByPciBusId_v2(const char *pci, void **out) {
    BEGIN("nvmlDeviceGetHandleByPciBusId_v2");
    int found = 0;
    for (int k = 0; !rc && k < gpu_count; k++) if (!strcasecmp(gpus[k].pci, pci)) { *out = &gpus[k]; found = 1; }
    if (!rc && !found) rc = NOT_FOUND;
    END;
}
int nvmlDeviceGetIndex(void *handle, unsigned *out) { BEGIN_GPU("nvmlDeviceGetIndex"); if (!rc) *out = (unsigned)(gpu - gpus); END; }
int nvmlDeviceGetName(void *handle, char *out, unsigned n) { BEGIN_GPU("nvmlDeviceGetName"); if (!rc) rc = say(out, n, gpu->name); END; }
int nvmlDeviceGetUUID(void *handle, char *out, unsigned n) {
    BEGIN_GPU("nvmlDeviceGetUUID");
    if (!rc) rc = say(out, n, slot >= 0 ? gpu->slice[slot] : gpu->uuid);
    END;
}
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } Pci;
int nvmlDeviceGetPciInfo_v3(void *handle, Pci *out) {
    BEGIN_GPU("nvmlDeviceGetPciInfo_v3");
    if (!rc) {
        memset(out, 0, sizeof *out);
        snprintf(out->legacy, sizeof out->legacy, "%.15s", gpu->pci);
        snprintf(out->bus_id, sizeof out->bus_id, "%s", gpu->pci);
    }
    END;
}
int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    BEGIN_GPU("nvmlDeviceGetMigMode");
    if (!rc) *current = *pending = gpu->slices > 0;
    END;
}
int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *out) { BEGIN_GPU("nvmlDeviceGetMaxMigDeviceCount"); if (!rc) *out = gpu->slices ? 7 : 0; END; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **out) {
    BEGIN_GPU("nvmlDeviceGetMigDeviceHandleByIndex");
    if (!rc && index >= (unsigned)gpu->slices) rc = NOT_FOUND;
    if (!rc) *out = (char *)gpu + 1 + index;
    END;
}
int nvmlDeviceIsMigDeviceHandle(void *handle, unsigned *out) { BEGIN_GPU("nvmlDeviceIsMigDeviceHandle"); if (!rc) *out = slot >= 0; END; }
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(void *handle, void **out) {
    BEGIN_GPU("nvmlDeviceGetDeviceHandleFromMigDeviceHandle");
    if (!rc) *out = gpu;
    END;
}

static unsigned long long millijoules(const Gpu *gpu, double joules) {
    unsigned long long whole = (unsigned long long)floor(1000 * joules + 1e-6), unit = (unsigned long long)(1000 * gpu->unit + 0.5);
    return unit > 1 ? whole - whole % unit : whole;
}
static double polled_counter(Gpu *gpu) {
    int k = (int)(gpu - gpus);
    double t = now_s(), gap = t - last_poll[k];
    if (gpu->perturb_gap > 0 && gap > 0 && gap < gpu->perturb_gap) extra_j[k] += gpu->perturb_w * gap;
    last_poll[k] = t;
    return counter_j(gpu, t) + extra_j[k];
}
int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *out) {
    BEGIN_GPU("nvmlDeviceGetTotalEnergyConsumption"); WHOLE;
    if (!rc) *out = millijoules(gpu, polled_counter(gpu));
    END;
}
int nvmlDeviceGetPowerUsage(void *handle, unsigned *out) {
    BEGIN_GPU("nvmlDeviceGetPowerUsage"); WHOLE;
    if (!rc) *out = (unsigned)lround(1000 * power_w(gpu, now_s(), gpu->avg_long));
    END;
}
int nvmlDeviceGetEnforcedPowerLimit(void *handle, unsigned *out) { BEGIN_GPU("nvmlDeviceGetEnforcedPowerLimit"); WHOLE; if (!rc) *out = (unsigned)(1000 * gpu->limit); END; }
int nvmlDeviceGetPowerManagementLimit(void *handle, unsigned *out) { BEGIN_GPU("nvmlDeviceGetPowerManagementLimit"); WHOLE; if (!rc) *out = (unsigned)(1000 * gpu->limit); END; }
int nvmlDeviceGetPowerManagementLimitConstraints(void *handle, unsigned *low, unsigned *high) {
    BEGIN_GPU("nvmlDeviceGetPowerManagementLimitConstraints"); WHOLE;
    if (!rc) { *low = (unsigned)(300 * gpu->limit); *high = (unsigned)(1000 * gpu->limit); }
    END;
}
int nvmlDeviceGetPowerManagementDefaultLimit(void *handle, unsigned *out) {
    BEGIN_GPU("nvmlDeviceGetPowerManagementDefaultLimit"); WHOLE;
    if (!rc && gpu->default_limit <= 0) rc = NOT_SUPPORTED;
    if (!rc) *out = (unsigned)(1000 * gpu->default_limit);
    END;
}
int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned *out) { (void)sensor; BEGIN_GPU("nvmlDeviceGetTemperature"); if (!rc) *out = (unsigned)gpu->temp; END; }
int nvmlDeviceGetClockInfo(void *handle, int type, unsigned *out) {
    (void)type;
    BEGIN_GPU("nvmlDeviceGetClockInfo");
    double mhz = 1980, t = now_s();
    for (int k = 0; !rc && k < gpu->clocks; k++) if (gpu->clock_t[k] <= t) mhz = gpu->clock_mhz[k];
    if (!rc) *out = (unsigned)mhz;
    END;
}
typedef struct { unsigned pid; unsigned long long memory; unsigned gi, ci; } Process;
static int processes(const char *symbol, void *handle, unsigned *count, Process *out) {
    BEGIN_GPU(symbol);
    if (!rc) {
        unsigned room = *count;
        *count = (unsigned)gpu->procs;
        if (room < *count) rc = SMALL;
        for (unsigned k = 0; !rc && k < *count; k++) out[k] = (Process){gpu->proc[k], 1u << 30, ~0u, ~0u};
    }
    END;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, Process *out) { return processes("nvmlDeviceGetComputeRunningProcesses_v3", handle, count, out); }
int nvmlDeviceGetMPSComputeRunningProcesses_v3(void *handle, unsigned *count, Process *out) {
    (void)out;
    BEGIN_GPU("nvmlDeviceGetMPSComputeRunningProcesses_v3");
    if (!rc) *count = 0;
    END;
}
typedef struct { unsigned long long total, free, used; } Memory;
int nvmlDeviceGetMemoryInfo(void *handle, Memory *out) { BEGIN_GPU("nvmlDeviceGetMemoryInfo"); if (!rc) *out = slot < 0 ? (Memory){80ull << 30, 70ull << 30, 10ull << 30} : (Memory){(uint64_t)gpu->slice_gib << 30, (uint64_t)(gpu->slice_gib - 1) << 30, 1ull << 30}; END; }
typedef struct { unsigned gpu, memory; } Use;
int nvmlDeviceGetUtilizationRates(void *handle, Use *out) { BEGIN_GPU("nvmlDeviceGetUtilizationRates"); if (!rc) *out = (Use){(unsigned)gpu->util, 40}; END; }
int nvmlDeviceGetArchitecture(void *handle, unsigned *out) { BEGIN_GPU("nvmlDeviceGetArchitecture"); if (!rc) *out = 9; END; }
int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) { BEGIN_GPU("nvmlDeviceGetCudaComputeCapability"); if (!rc) { *major = 9; *minor = 0; } END; }

typedef union { double d; unsigned ui; unsigned long ul; unsigned long long ull; long long sll; int si; unsigned short us; } Value;
typedef struct { unsigned field, scope; int64_t timestamp, latency; unsigned type; int rc; Value value; } Field;

int nvmlDeviceGetFieldValues(void *handle, int count, Field *fields) {
    BEGIN_GPU("nvmlDeviceGetFieldValues"); WHOLE;
    double t = now_s();
    for (int k = 0; !rc && k < count; k++) {
        Field *f = &fields[k];
        char symbol[32];
        snprintf(symbol, sizeof symbol, "field:%u", f->field);
        int row = row_of(symbol), column = (int)(gpu - gpus);
        counts[row].calls[column]++;
        f->timestamp = wall_us(t);
        f->latency = 0;
        f->type = 1;
        f->rc = failing(gpu->fail, gpu->fails, symbol, row, column, t);
        if (f->rc) continue;
        if (f->field == 83) { f->type = 3; f->value.ull = millijoules(gpu, polled_counter(gpu)); }
        else if (f->field == 186) f->value.ui = (unsigned)lround(1000 * power_w(gpu, t, gpu->avg));
        else if (f->field == 185) f->value.ui = (unsigned)lround(1000 * power_w(gpu, t, gpu->avg_long));
        else if (f->field == 74 || (f->field >= 269 && f->field <= 271)) {
            double ns = 0;
            for (int s = 0; s < gpu->spans; s++) {
                const Span *span = &gpu->span[s];
                double end = t < span->to ? t : span->to;
                if (span->field == f->field && end > span->from) ns += span->share * (end - span->from) * 1e9;
            }
            f->type = 3;
            f->value.ull = (unsigned long long)ns;
        } else f->rc = NOT_SUPPORTED;
    }
    END;
}
