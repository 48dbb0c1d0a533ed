// Random workflows: directed graphs with everything that decides, repeats, fails and times out.
import type { Json, JsonObject } from '../../src/base/json.ts'
import { failureOfProblems } from '../../src/domain/failure.ts'
import { compileWorkflow } from '../../src/domain/manifest.ts'
import type { Definition } from '../../src/domain/workflow.ts'
import type { Dice } from './dice.ts'

/** Functions of the scripted workers; the name tells how an attempt ends. */
const FUNCTIONS = ['m.quick', 'm.quick', 'm.slow', 'm.flaky', 'm.broken', 'm.lists', 'm.hangs'] as const

export function randomWorkflow(dice: Dice, name: string): Definition {
  const size = dice.int(1, 8)
  const steps = Array.from({ length: size }, (_, i) => randomStep(dice, i))
  const compiled = compileWorkflow({
    apiVersion: 'orrery.dev/v1',
    kind: 'Workflow',
    metadata: { name },
    spec: { modules: { m: './m.ts' }, failFast: dice.chance(0.2), steps },
  })
  if (!compiled.ok) throw failureOfProblems(compiled.problems, `making ${name}: ${JSON.stringify(steps)}`)
  return compiled.definition
}

function randomStep(dice: Dice, index: number): JsonObject {
  const needs = Array.from({ length: index }, (_, i) => `s${i}`).filter(() => dice.chance(index < 3 ? 0.6 : 0.35))
  const step: { [key: string]: Json } = { name: `s${index}`, needs }
  const isCommand = dice.chance(0.3)
  if (isCommand) step['command'] = [dice.pick(['true', 'sleep', 'flaky'])]
  else {
    step['function'] = dice.chance(0.55) ? 'm.quick' : dice.pick(FUNCTIONS)
    step['with'] = { n: index }
  }
  const from = needs[0]
  if (dice.chance(0.2))
    step['if'] = from && dice.chance(0.5) ? `\${{ steps.${from}.state == 'succeeded' }}` : String(dice.chance(0.7))
  if (dice.chance(0.25)) {
    step['forEach'] = Array.from({ length: dice.int(0, 4) }, (_, i) => i)
    if (dice.chance(0.6)) step['maxParallel'] = dice.int(1, 2)
  }
  if (!isCommand && from && dice.chance(0.3)) step['with'] = { from: `\${{ steps.${from}.output }}` }
  if (dice.chance(0.5))
    step['retry'] = { max: dice.int(1, 2), initial: '300ms', maxDelay: '2s', factor: 2, jitter: dice.pick([0, 0.5]) }
  if (dice.chance(0.6) || step['function'] === 'm.hangs') step['timeout'] = dice.pick(['500ms', '2s'])
  if (dice.chance(0.1)) step['queueTimeout'] = dice.pick(['1s', '10s'])
  if (dice.chance(0.2)) step['onFailure'] = 'continue'
  if (dice.chance(0.2)) step['runsOn'] = { zone: dice.pick(['a', 'b']) }
  return step
}
