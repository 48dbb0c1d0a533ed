// Agents over a server and its worker that were started as people start them.
import { stringify } from 'yaml'
import type { JsonObject } from '../../src/base/index.ts'
import type { RunView } from '../../src/contract/api-types.ts'
import { makeDir, endedRun, startUp, type Up, writeBelow } from './rig.ts'
import { runOrrery } from '../support/processes.ts'

export interface AgentScene {
  up: Up
  orrery(...args: string[]): ReturnType<typeof runOrrery>
  /** Applies manifests; a failure is thrown with what was said. */
  apply(yaml: string): Promise<void>
  /** A run of a stored workflow, once it has ended. */
  run(workflow: string, inputs?: JsonObject): Promise<RunView>
  ended(runId: string): Promise<RunView>
  /** All entries of the journal of a step. */
  journal(runId: string, step: string): Promise<JsonObject[]>
  /** Applies an agent with its endpoint and tools, and runs it in a workflow of one step `write`. */
  ask(spec: { agent?: JsonObject; model?: JsonObject; tools?: Record<string, JsonObject> }): Promise<RunView>
}

export const doc = (kind: string, name: string, spec: JsonObject): JsonObject => ({
  apiVersion: 'orrery.dev/v1',
  kind,
  metadata: { name },
  spec,
})

export const yamlOf = (documents: readonly JsonObject[]): string => documents.map((one) => stringify(one)).join('---\n')

export async function startAgents(args: readonly string[] = []): Promise<AgentScene> {
  const up = await startUp(args)
  const dir = makeDir()
  const env = { ORRERY_SERVER: up.address, ORRERY_TOKEN: up.token }
  const orrery = (...more: string[]) => runOrrery(more, { env })
  let applied = 0
  const scene: AgentScene = {
    up,
    orrery,
    async apply(yaml) {
      const path = writeBelow(dir, `all${++applied}.yaml`, yaml)
      const { code, stderr } = await orrery('apply', '-f', path, '--json')
      if (code !== 0) throw new Error(stderr)
    },
    async run(workflow, inputs = {}) {
      const { id } = await up.client.createRun({ workflowRef: workflow, inputs })
      return endedRun(up.client, id)
    },
    ended: (runId) => endedRun(up.client, runId),
    async journal(runId, step) {
      const address = `${up.address}/v1/runs/${runId}/steps/${step}/journal?limit=500`
      const answer = await fetch(address, { headers: { authorization: `Bearer ${up.token}` } })
      const { items } = (await answer.json()) as { items: { entry: JsonObject }[] } // as the contract has it
      return items.map(({ entry }) => entry)
    },
    async ask({ agent = {}, model = {}, tools = {} }) {
      const names = Object.keys(tools)
      await scene.apply(
        yamlOf([
          doc('ModelEndpoint', 'gpt', { provider: 'mock', model: 'm', ...model }),
          ...Object.entries(tools).map(([name, spec]) => doc('Tool', name, { description: 'A tool.', ...spec })),
          doc('Agent', 'writer', {
            model: 'gpt',
            instructions: 'Write.',
            ...(names.length > 0 ? { tools: names } : {}),
            ...agent,
          }),
          doc('Workflow', 'ask', { steps: [{ name: 'write', agent: 'writer', with: { prompt: 'Go.' } }] }),
        ]),
      )
      return scene.run('ask')
    },
  }
  return scene
}
