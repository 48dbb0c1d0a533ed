import type { Queryable } from '../../store/db.ts'
import { readResourceClock } from '../../store/resources/resource-clock.ts'

/** Another one after each change of a resource or a stored secret, whoever's it is: what a step of agents uses may have changed. */
export const contextVersion = async (on: Queryable): Promise<string> => String((await readResourceClock(on)).version)
