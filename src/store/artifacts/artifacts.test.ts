import { silentLog } from '../../base/log.ts'
import { openEmbedded } from '../embedded.ts'
import { artifactSuite } from './artifacts.suite.ts'

artifactSuite('artifacts on PGlite', () =>
  openEmbedded({ dataDir: null, seedDir: null, version: '0', pid: process.pid, isAlive: () => null, log: silentLog }),
)
