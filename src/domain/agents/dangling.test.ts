import { describe, expect, test } from 'vitest'
import type { JsonObject } from '../../base/json.ts'
import { readResources } from '../kinds/documents.ts'
import { namedElsewhere, remarkOn } from './dangling.ts'

const doc = (kind: string, name: string, spec: JsonObject, namespace = 'default') => ({
  apiVersion: 'orrery.dev/v1',
  kind,
  metadata: { name, namespace },
  spec,
})
const agent = (name: string, more: JsonObject = {}) => doc('Agent', name, { model: 'gpt', instructions: 'x', ...more })
const tool = (name: string, more: JsonObject) => doc('Tool', name, { description: 'd', ...more })
const GPT = doc('ModelEndpoint', 'gpt', { provider: 'mock', model: 'm', mock: { replies: [{ text: 'x' }] } })
const asking = (name: string) => doc('Workflow', 'w', { steps: [{ name: 'write', agent: name, with: 'x' }] })

function elsewhere(...documents: JsonObject[]): string[] {
  const read = readResources([{ file: 'f', text: JSON.stringify({ kind: 'List', items: documents }) }], null)
  expect(read.problems).toEqual([])
  return namedElsewhere(read.documents).map(
    ({ kind, namespace, name, by, field }) => `${kind} ${namespace}/${name}: ${field} of ${by}`,
  )
}

describe('what documents name', () => {
  test('and is among them is nothing to speak of', () => {
    expect(elsewhere(GPT, agent('writer'), asking('writer'))).toEqual([])
  })

  test('and is not among them is told, with who names it where', () => {
    expect(
      elsewhere(agent('writer', { tools: ['go'], delegates: ['editor'], roles: ['reader'] }), asking('writr')),
    ).toEqual([
      'ModelEndpoint default/gpt: model of agent writer',
      'Tool default/go: tools of agent writer',
      'Agent default/editor: delegates of agent writer',
      'Role default/reader: roles of agent writer',
      'Agent default/writr: agent of step write',
    ])
  })

  test('a tool names an agent, a server of tools, or a workflow with its version and namespace', () => {
    expect(
      elsewhere(
        tool('a', { type: 'agent', agent: 'helper' }),
        tool('b', { type: 'mcp', mcp: { server: 'files', tool: 'read' } }),
        tool('c', { type: 'workflow', workflow: 'w@2' }),
        tool('d', { type: 'workflow', workflow: 'ops/deploy' }),
        doc('Workflow', 'w', { steps: [{ name: 'a', command: ['true'] }] }),
      ),
    ).toEqual([
      'Agent default/helper: agent of tool a',
      'McpServer default/files: mcp.server of tool b',
      'Workflow ops/deploy: workflow of tool d',
    ])
  })

  test('of another namespace is another', () => {
    expect(elsewhere(doc('Agent', 'writer', { model: 'gpt', instructions: 'x' }, 'ops'), asking('writer'))).toEqual([
      'ModelEndpoint ops/gpt: model of agent writer',
      'Agent default/writer: agent of step write',
    ])
  })

  test('is remarked on with what was probably meant', () => {
    const named = { kind: 'Agent' as const, namespace: 'acme/ops', name: 'writr', by: 'step write', field: 'agent' }
    expect(remarkOn(named, 'there', ['writer', 'other'])).toBe(
      'step write names Agent writr in agent, which is not there: no run starts before it is stored in namespace ops; did you mean writer?',
    )
    expect(remarkOn(named, 'there', [])).not.toContain('mean')
  })
})
