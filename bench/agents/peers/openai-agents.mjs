import { Agent, OpenAIChatCompletionsModel, run, setTracingDisabled, tool } from '@openai/agents'
import OpenAI from 'openai'
import { z } from 'zod'
import { add, base, main, PROMPT } from './common.mjs'

setTracingDisabled(true)
const model = new OpenAIChatCompletionsModel(
  new OpenAI({ apiKey: 'none', baseURL: `${base}/v1`, maxRetries: 0 }),
  'instant',
)
const adding = tool({
  name: 'add',
  description: 'adds',
  parameters: z.object({ conversation: z.number(), n: z.number() }),
  execute: ({ conversation, n }) => add(conversation, n),
})
const agent = new Agent({ name: 'adder', instructions: 'You add.', model, tools: [adding] })

await main((i) => run(agent, `${PROMPT} ${i}`, { maxTurns: 30 }))
