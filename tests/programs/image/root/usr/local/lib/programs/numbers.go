// Copyright: (c) 2026, fog.migration contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Counts on each connection, a number every 5 ms.
package main

import (
	"fmt"
	"log"
	"net"
	"time"
)

func count(connection net.Conn) {
	defer connection.Close()
	for number := 0; ; number++ {
		if _, err := fmt.Fprintln(connection, number); err != nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func main() {
	listener, err := net.Listen("tcp", ":7000")
	if err != nil {
		log.Fatal(err)
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go count(connection)
	}
}
