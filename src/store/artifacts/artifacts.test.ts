import { openInMemory } from '../testing/embedded.ts'
import { artifactSuite } from './artifacts.suite.ts'

artifactSuite('artifacts on PGlite', openInMemory)
