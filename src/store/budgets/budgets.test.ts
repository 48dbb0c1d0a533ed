import { openInMemory } from '../testing/embedded.ts'
import { budgetSuite } from './budgets.suite.ts'

budgetSuite('budgets on PGlite', openInMemory)
