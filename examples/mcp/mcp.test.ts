import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { readResources } from '../../src/domain/kinds/documents.ts'
import { isOffered, readMcpServer, traitsOf } from '../../src/domain/kinds/mcp-server.ts'

test('the servers of this folder are sound, and offer what stands beside them', () => {
  const file = 'servers.yaml'
  const text = readFileSync(new URL(file, import.meta.url), 'utf8')
  const { documents, problems } = readResources([{ file, text }], null)
  expect(problems).toEqual([])
  const [files, tickets] = documents.map(({ spec }) => readMcpServer(spec))
  const offered = ['read_file', 'list_directory', 'write_file'].filter((name) => files && isOffered(name, files.tools))
  expect(offered).toEqual(['read_file', 'list_directory'])
  expect(files && traitsOf('read_file', {}, files)).toMatchObject({ operation: 'read', repeatable: true })
  expect(tickets).toMatchObject({ optional: true, transport: 'http' })
})
