import { describe, expect, test } from 'vitest'
import type { Json } from '../../base/json.ts'
import { schemaProblems, validateJson } from '../json-schema.ts'
import { MEMORY_GRANTS } from '../kinds/agent.ts'
import { LIMITS } from '../limits.ts'
import { MEMORY_TOOLS, memoryTools } from './memory-tools.ts'

describe('the tools of a memory', () => {
  test('are those that were granted, and no others', () => {
    expect(
      memoryTools('notes', ['search', 'read', 'search']).map(({ name, operation }) => `${name} ${operation}`),
    ).toEqual(['notes.search read', 'notes.read read'])
    expect(memoryTools('notes', [])).toEqual([])
  })

  test('may each be called again, and say what kind of thing they do', () => {
    const tools = memoryTools('notes', MEMORY_GRANTS)
    expect(tools.map(({ operation }) => operation)).toEqual(['read', 'write', 'read', 'read', 'write'])
    expect(tools.every(({ repeatable }) => repeatable)).toBe(true)
  })

  test('tell the model what is kept in it', () => {
    const [tool] = memoryTools('notes', ['read'], { description: 'what customers like' })
    expect(tool?.description).toBe(
      'Gives one entry by its key; `entry` is null when there is none. The memory notes has: what customers like',
    )
  })

  test.each(MEMORY_GRANTS)('%s has schemas that can be used, and takes nothing unknown', (grant) => {
    const { input, output } = MEMORY_TOOLS[grant]
    expect([...schemaProblems(input), ...schemaProblems(output)]).toEqual([])
    const problems = validateJson({ sneaky: 1 }, input, { mode: 'plain', code: 'input.invalid', root: 'input' })
    expect(problems.some(({ path }) => path?.includes('sneaky'))).toBe(true)
  })

  test.each<[string, keyof typeof MEMORY_TOOLS, Json]>([
    ['an empty key', 'read', { key: '' }],
    ['a key that is too long', 'read', { key: 'k'.repeat(LIMITS.memoryKeyChars + 1) }],
    ['a text that is too long', 'write', { key: 'k', text: 't'.repeat(LIMITS.memoryTextChars + 1) }],
    ['more than a search gives', 'search', { query: 'q', limit: LIMITS.memoryFoundMax + 1 }],
    ['a source without room for the chunk', 'ingest', { source: 's'.repeat(LIMITS.memoryKeyChars), text: 't' }],
  ])('%s is refused', (_, grant, input) => {
    const options = { mode: 'plain', code: 'input.invalid', root: 'input' } as const
    expect(validateJson(input, MEMORY_TOOLS[grant].input, options)).not.toEqual([])
  })
})
