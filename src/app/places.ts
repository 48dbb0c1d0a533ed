import { homedir } from 'node:os'
import { join } from 'node:path'

export type Env = Record<string, string | undefined>

/** Where data is kept when nobody says: XDG base directories. */
export const defaultDataDir = (env: Env): string =>
  env['ORRERY_DATA_DIR'] ?? join(env['XDG_DATA_HOME'] ?? join(homedir(), '.local', 'share'), 'orrery')

/** Prepared databases: may be removed at any time. */
export const seedDir = (env: Env): string => join(env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'orrery')

/** Servers that this user has named. */
export const contextPath = (env: Env): string =>
  join(env['XDG_CONFIG_HOME'] ?? join(homedir(), '.config'), 'orrery', 'contexts.json')

/** What a local `orrery up` leaves for the commands that follow. */
export const stateFile = (dataDir: string): string => join(dataDir, 'server.json')
