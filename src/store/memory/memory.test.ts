import { openInMemory } from '../testing/embedded.ts'
import { memorySuite } from './memory.suite.ts'

memorySuite('memories on PGlite', openInMemory)
