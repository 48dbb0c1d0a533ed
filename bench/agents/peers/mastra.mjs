import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { Agent } from '@mastra/core/agent'
import { Mastra } from '@mastra/core/mastra'
import { createTool } from '@mastra/core/tools'
import { PostgresStore } from '@mastra/pg'
import { z } from 'zod'
import { add, base, database, main, PROMPT } from './common.mjs'

const provider = createOpenAICompatible({ name: 'instant', baseURL: `${base}/v1`, apiKey: 'none', includeUsage: true })
const storage = new PostgresStore({ id: 'bench', connectionString: database, max: 25 })
const adding = createTool({
  id: 'add',
  description: 'adds',
  inputSchema: z.object({ conversation: z.number(), n: z.number() }),
  execute: ({ conversation, n }) => add(conversation, n),
})
const agent = new Agent({
  id: 'adder',
  name: 'adder',
  instructions: 'You add.',
  model: provider('instant'),
  tools: { add: adding },
})
const mastra = new Mastra({ storage, agents: { adder: agent }, logger: false })
await storage.init?.()

await main((i) => mastra.getAgent('adder').generate(`${PROMPT} ${i}`, { maxSteps: 20 }))
