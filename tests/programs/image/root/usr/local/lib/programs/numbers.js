// Copyright: (c) 2026, fog.migration contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Counts on each connection, a number every 5 ms.
const net = require("node:net");

net.createServer((socket) => {
    let number = 0;
    const timer = setInterval(() => socket.write(`${number++}\n`), 5);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => clearInterval(timer));
}).listen(7000);
