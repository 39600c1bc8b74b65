#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Runs inside the root file system of the programs' image once its packages are there.

# What service managers make: each program's folder for its socket.
install -d -o mysql -g mysql /run/mysqld
install -d -o mosquitto -g mosquitto /run/mosquitto
install -d -o postgres -g postgres -m 2775 /run/postgresql
install -d -o redis -g redis /run/redis
install -d -o www-data -g www-data /run/php

# Clients come from the lab's network, and nobody else does.
[ -s /var/lib/postgresql/17/main/PG_VERSION ] || pg_createcluster 17 main
echo 'host all all samenet trust' >>/etc/postgresql/17/main/pg_hba.conf

HOME=/tmp CGO_ENABLED=0 go build -o /usr/local/lib/programs/numbers /usr/local/lib/programs/numbers.go
apt-get -qq --yes purge --autoremove golang-go >/dev/null
