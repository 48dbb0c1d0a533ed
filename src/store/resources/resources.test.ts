import { silentLog } from '../../base/log.ts'
import { openEmbedded } from '../embedded.ts'
import { resourceSuite } from './resources.suite.ts'

resourceSuite('resources on PGlite', () =>
  openEmbedded({ dataDir: null, seedDir: null, version: '0', pid: process.pid, isAlive: () => null, log: silentLog }),
)
