import { openInMemory } from '../testing/embedded.ts'
import { journalSuite } from './journal.suite.ts'

journalSuite('journals on PGlite', openInMemory)
