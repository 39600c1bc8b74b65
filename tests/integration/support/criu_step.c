/* Copyright: (c) 2026, fog.migration contributors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Preloaded into CRIU: kills it as soon as it has written the text in FOG_CRIU_STEP, to its log. See criu_step.py.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *step;

__attribute__((constructor)) static void remember(void)
{
    const char *text = getenv("FOG_CRIU_STEP");

    step = text && *text ? strdup(text) : NULL;
}

ssize_t write(int file, const void *data, size_t size)
{
    ssize_t written = syscall(SYS_write, file, data, size);

    if (step && written > 0 && memmem(data, written, step, strlen(step)))
        kill(getpid(), SIGKILL);
    return written;
}
