import { PostgresSaver } from '@langchain/langgraph-checkpoint-postgres'
import { ChatOpenAI } from '@langchain/openai'
import { createAgent, tool } from 'langchain'
import pg from 'pg'
import { z } from 'zod'
import { add, base, database, main, PROMPT } from './common.mjs'

const saver = new PostgresSaver(new pg.Pool({ connectionString: database, max: 25 }))
await saver.setup()
const model = new ChatOpenAI({
  model: 'instant',
  apiKey: 'none',
  configuration: { baseURL: `${base}/v1` },
  useResponsesApi: false,
  maxRetries: 0,
})
const adding = tool(({ conversation, n }) => add(conversation, n), {
  name: 'add',
  description: 'adds',
  schema: z.object({ conversation: z.number(), n: z.number() }),
})
const agent = createAgent({ model, tools: [adding], checkpointer: saver })

await main((i) =>
  agent.invoke(
    { messages: [{ role: 'user', content: `${PROMPT} ${i}` }] },
    { configurable: { thread_id: String(i) }, durability: 'sync', recursionLimit: 100 },
  ),
)
