/* Copyright: (c) 2026, fog.migration contributors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later */

/* Lets root without CAP_SYS_RESOURCE read the resource limits of other users' processes, as CRIU does in a dump.
 *
 * Without that capability, the kernel answers a process only about those whose user IDs and group IDs are all the same
 * as its own real ones. So what it has refused is asked once more by a thread that has these as its real IDs for so
 * long. Its effective and saved IDs stay root's, and with them its capabilities. Limits are read only, never set.
 *
 * /etc/ld.so.preload loads it into all programs of a node. It needs nothing of the C library but errno, so that it fits
 * that of any Debian. */

enum { HERE = -100, REFUSED = -1, AS_IT_IS = -1 };

#if defined(__x86_64__)
enum { READ = 0, CLOSE = 3, GETUID = 102, SETRESUID = 117, SETRESGID = 119, OPENAT = 257, PRLIMIT = 302 };

static long kernel(long number, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
enum { OPENAT = 56, CLOSE = 57, READ = 63, SETRESUID = 147, SETRESGID = 149, GETUID = 174, PRLIMIT = 261 };

static long kernel(long number, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c,
                     x3 __asm__("x3") = d, x4 __asm__("x4") = e, x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
#else
#error "limits.c knows the system calls of x86_64 and aarch64 only"
#endif

extern int *__errno_location(void);

/* /proc/PROCESS/status */
static void name_status(char *path, unsigned long process)
{
    char digits[20];
    int count = 0;
    for (const char *from = "/proc/"; *from; from++)
        *path++ = *from;
    do
        digits[count++] = (char)('0' + process % 10);
    while (process /= 10);
    while (count)
        *path++ = digits[--count];
    for (const char *from = "/status"; (*path++ = *from); from++)
        ;
}

/* The real ID in the line "Uid:" or "Gid:" of a status, the first of four. */
static long real_id(const char *at, const char *end, char kind)
{
    for (; end - at > 6; at++) {
        if (at[0] == '\n' && at[1] == kind && at[2] == 'i' && at[3] == 'd' && at[4] == ':') {
            long id = 0;
            for (at += 6; at < end && *at >= '0' && *at <= '9'; at++)
                id = id * 10 + (*at - '0');
            return id;
        }
    }
    return AS_IT_IS;
}

static long ask_as_its_user(long process, long resource, long answer)
{
    char path[48], status[1024];
    name_status(path, (unsigned long)process);
    long file = kernel(OPENAT, HERE, (long)path, 0, 0, 0, 0);
    long size = file < 0 ? 0 : kernel(READ, file, (long)status, sizeof status, 0, 0, 0);
    if (file >= 0)
        kernel(CLOSE, file, 0, 0, 0, 0, 0);
    if (size <= 0)
        return REFUSED;
    kernel(SETRESGID, real_id(status, status + size, 'G'), AS_IT_IS, AS_IT_IS, 0, 0, 0);
    kernel(SETRESUID, real_id(status, status + size, 'U'), AS_IT_IS, AS_IT_IS, 0, 0, 0);
    long result = kernel(PRLIMIT, process, resource, 0, answer, 0, 0);
    kernel(SETRESUID, 0, AS_IT_IS, AS_IT_IS, 0, 0, 0);
    kernel(SETRESGID, 0, AS_IT_IS, AS_IT_IS, 0, 0, 0);
    return result;
}

/* What these functions of the C library do, and so CRIU, which asks by the first one. */
long syscall(long number, long a, long b, long c, long d, long e, long f)
{
    long result = kernel(number, a, b, c, d, e, f);
    if (number == PRLIMIT && result == REFUSED && a && !c && kernel(GETUID, 0, 0, 0, 0, 0, 0) == 0)
        result = ask_as_its_user(a, b, d);
    if (result >= 0 || result < -4095)
        return result;
    *__errno_location() = (int)-result;
    return -1;
}

int prlimit64(int process, unsigned int resource, const void *wanted, void *answer)
{
    return (int)syscall(PRLIMIT, process, resource, (long)wanted, (long)answer, 0, 0);
}

int prlimit(int process, unsigned int resource, const void *wanted, void *answer)
{
    return prlimit64(process, resource, wanted, answer);
}
