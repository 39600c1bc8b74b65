-- Copyright: (c) 2026, fog.migration contributors
-- GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
-- SPDX-License-Identifier: GPL-3.0-or-later

-- Run at each start.
CREATE DATABASE IF NOT EXISTS programs;
CREATE USER IF NOT EXISTS client@'%';
GRANT ALL ON programs.* TO client@'%';
CREATE TABLE IF NOT EXISTS programs.counter (n INT NOT NULL);
INSERT INTO programs.counter SELECT 0 FROM DUAL WHERE NOT EXISTS (SELECT * FROM programs.counter);
CREATE TABLE IF NOT EXISTS programs.history (n INT NOT NULL PRIMARY KEY);
