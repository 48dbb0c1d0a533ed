import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { silentLog, systemClock } from '../../base/index.ts'
import { describeBackend } from '../backend.suite.ts'
import type { Act } from '../scripted.ts'
import { createProcessBackend } from './process-backend.ts'

const create = (root: string) =>
  createProcessBackend({ root: join(root, 'worker'), clock: systemClock, log: silentLog, idleExitMs: 500 })

const quote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`

function shellOf(act: Act, root: string): string {
  if ('print' in act) return `printf %s ${quote(act.print)}${act.to === 'stderr' ? ' >&2' : ''}`
  if ('printStdin' in act) return 'cat'
  if ('printEnv' in act) return `printf %s "$${act.printEnv}"`
  if ('output' in act) return `printf %s ${quote(JSON.stringify(act.output))} > "$ORRERY_OUTPUT"`
  if ('exports' in act) return `printf %s ${quote(act.exports)} >> "$ORRERY_ENV"`
  if ('write' in act)
    return `mkdir -p "$(dirname ${quote(act.write)})"; printf %s ${quote(act.text)} > ${quote(act.write)}`
  if ('hold' in act) return `while [ ! -e ${quote(join(root, act.hold))} ]; do sleep 0.02; done`
  if ('sleepMs' in act) return `sleep ${act.sleepMs / 1000}`
  if ('exit' in act) return `exit ${act.exit}`
  if ('signal' in act) return `kill -s ${act.signal.replace('SIG', '')} $$`
  throw new Error(`no shell for ${JSON.stringify(act)}`)
}

describeBackend('process', {
  create,
  argvOf: (acts, root) => ['sh', '-c', acts.map((act) => shellOf(act, root)).join('\n')],
  release: (name, root) => writeFileSync(join(root, name), ''),
  reborn: (_backend, root) => create(root),
})
