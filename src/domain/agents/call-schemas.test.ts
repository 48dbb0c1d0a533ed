import { expect, test } from 'vitest'
import { readAgent } from '../kinds/agent.ts'
import { readMcpServer } from '../kinds/mcp-server.ts'
import { readTool } from '../kinds/tool.ts'
import { boundOf } from '../testing/definitions.ts'
import { PROMPT_SCHEMA, REASON_SCHEMA, schemaOfCall } from './call-schemas.ts'
import { MEMORY_TOOLS } from './memory-tools.ts'

const own = { type: 'object', properties: { to: { type: 'string' } }, required: ['to'] }
const bound = boundOf({
  agents: {
    writer: {
      spec: readAgent({
        model: 'gpt',
        instructions: 'Write.',
        mcpServers: [{ name: 'box' }],
        memories: [{ name: 'diary', allow: ['write'] }],
        delegates: ['reader'],
        handoffs: ['lead'],
      }),
      instructions: '',
      definition: null,
    },
  },
  tools: {
    pay: readTool({ type: 'http', description: 'Pays.', inputSchema: own, http: { url: 'https://pay.example' } }),
    research: readTool({ type: 'agent', description: 'Looks.', agent: 'reader' }),
    look: readTool({ type: 'mcp', description: 'Looks.', inputSchema: own, mcp: { server: 'box', tool: 'look' } }),
  },
  mcpServers: { box: readMcpServer({ transport: 'stdio', stdio: { command: 'x' } }) },
})

test.for([
  ['pay', own, null],
  ['research', PROMPT_SCHEMA, null],
  ['ask_reader', PROMPT_SCHEMA, null],
  ['hand_over_to_lead', REASON_SCHEMA, null],
  ['diary.write', MEMORY_TOOLS.write.input, null],
  ['look', own, 'box'],
  ['box.open', null, 'box'],
  ['elsewhere.open', null, null],
  ['toString', null, null],
] as const)('what %s takes', ([tool, schema, server]) => {
  expect(schemaOfCall(bound, 'writer', tool)).toEqual({ schema, server })
})

test('a step without an agent knows its tool alone', () => {
  expect(schemaOfCall(bound, null, 'pay').schema).toEqual(own)
  expect(schemaOfCall(bound, null, 'box.open')).toEqual({ schema: null, server: null })
  expect(schemaOfCall(undefined, 'writer', 'pay')).toEqual({ schema: null, server: null })
})
