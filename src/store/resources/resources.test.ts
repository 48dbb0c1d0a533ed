import { openInMemory } from '../testing/embedded.ts'
import { resourceSuite } from './resources.suite.ts'

resourceSuite('resources on PGlite', openInMemory)
