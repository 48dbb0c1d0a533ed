import { readdirSync, readFileSync } from 'node:fs'
import { beforeEach, describe, expect, test } from 'vitest'
import { namedElsewhere } from '../../src/domain/agents/dangling.ts'
import { readResources, type ResourceDocument } from '../../src/domain/kinds/documents.ts'
import { planOf } from '../../src/domain/plan.ts'
import type { RunningEngine } from '../../src/engine/create-engine.ts'
import { ADMIN, type EngineRig, useRig } from '../../src/engine/testing/rig.ts'

const HERE = new URL('./', import.meta.url)
const FILES = readdirSync(HERE).filter((file) => file.endsWith('.yaml'))

let rig: EngineRig
let engine: RunningEngine
useRig((given) => {
  rig = given
})
beforeEach(() => {
  engine = rig.engine()
})

function read(file: string): ResourceDocument[] {
  const { documents, problems } = readResources([{ file, text: readFileSync(new URL(file, HERE), 'utf8') }], null)
  expect(problems).toEqual([])
  return documents
}

/** A run of the workflow of a file, with all of the file stored. */
async function started(file: string): Promise<string> {
  const documents = read(file)
  await engine.resources.apply(ADMIN, documents, { dryRun: false })
  const name = documents.find(({ kind }) => kind === 'Workflow')?.name ?? ''
  const { definition } = await engine.resources.startOf(ADMIN, { namespace: 'default', name, version: null })
  return rig.start(engine, definition)
}

describe.each(FILES)('%s', (file) => {
  test('has everything in it that it names', () => {
    expect(namedElsewhere(read(file))).toEqual([])
  })

  test('starts, and its first steps are given to a worker with agents', async () => {
    const worker = await rig.worker(engine, { backends: ['agent'] })
    const runId = await started(file)
    await engine.tick()
    expect((await worker.poll()).assignments.length).toBeGreaterThan(0)
    expect((await engine.getRun(ADMIN, runId)).failure).toBeNull()
  })
})

test('they are the shapes that teams of agents have', () => {
  const stages = (file: string) => {
    const definition = read(file)[0]?.definition
    if (!definition) throw new Error(`${file} begins with no workflow`)
    return planOf(definition, { message: 'x', topic: 'x', plan: 'x' }).steps.map(
      ({ name, stage, kind }) => `${stage} ${name} ${kind}`,
    )
  }
  expect(stages('pipeline.yaml')).toEqual(['1 research agent', '2 write agent', '3 edit agent'])
  expect(stages('hierarchical.yaml')).toEqual(['1 money agent', '1 law agent', '1 people agent', '2 decide agent'])
  expect(stages('swarm.yaml')).toEqual(['1 draft agent', '1 review agent', '2 done command'])
  expect(stages('routed.yaml')).toEqual(['1 triage route', '2 billing agent', '2 tech agent', '2 human approval'])
  expect(stages('delegation.yaml')).toEqual(['1 report agent'])
})

test('what a delegation runs is bound to the run', async () => {
  const { definition } = await engine.getRun(ADMIN, await started('delegation.yaml'))
  const { bound } = (await engine.getDefinition(ADMIN, definition)).definition
  expect(bound?.agents['delegation-researcher']?.definition).toMatch(/^[A-Za-z0-9_-]{43}$/)
  expect(bound?.agents['delegation-lead']?.definition).toBeNull()
})
