import { systemClock } from '../base/index.ts'
import type { Backend } from './backend.ts'
import { describeBackend } from './backend.suite.ts'
import { type Act, createScriptedBackend, type ScriptedBackend } from './scripted.ts'

const worlds = new Map<string, ScriptedBackend>()

describeBackend('scripted', {
  create(root): Promise<Backend> {
    // The suite puts its acts into the command line, where the script finds them again.
    const script = (spec: { argv: string[] }) => JSON.parse(spec.argv[1] ?? '[]') as Act[]
    const backend = createScriptedBackend({ clock: systemClock, root, script })
    worlds.set(root, backend)
    return Promise.resolve(backend)
  },
  argvOf: (acts) => ['acts', JSON.stringify(acts)],
  release: (name, root) => worlds.get(root)?.release(name),
  reborn(_backend, root) {
    const next = worlds.get(root)?.reborn()
    if (next === undefined) throw new Error('no such world')
    worlds.set(root, next)
    return Promise.resolve(next)
  },
})
