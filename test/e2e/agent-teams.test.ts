// The examples of agents that work together, run as people run them: one command, an engine and a worker in its process.
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { makeDir } from '../scenarios/rig.ts'
import { runOrrery } from '../support/processes.ts'

const HERE = fileURLToPath(new URL('../../examples/agents/', import.meta.url))
const SHAPES = readdirSync(HERE).filter((file) => file.endsWith('.yaml'))

describe('the shapes of examples/agents', () => {
  test('there are five', () => {
    expect(SHAPES).toEqual(['delegation.yaml', 'hierarchical.yaml', 'pipeline.yaml', 'routed.yaml', 'swarm.yaml'])
  })

  test.for(SHAPES)('%s runs', async (shape) => {
    const end = await runOrrery(['run', join(HERE, shape), '--json'], { env: { XDG_DATA_HOME: makeDir() } })
    expect({ code: end.code, said: end.code === 0 ? '' : end.stderr }).toEqual({ code: 0, said: '' })
    expect(end.stdout).toContain('"state":"succeeded"')
  })
})
