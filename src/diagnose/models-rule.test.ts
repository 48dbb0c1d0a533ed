import { expect, test } from 'vitest'
import { Failure } from '../domain/failure.ts'
import { checkModel } from './models-rule.ts'

const endpoint = { endpoint: 'default/gpt', provider: 'openai', model: 'gpt-5', secrets: [], dangling: [] }

test('an endpoint that finds what it names is well', () => {
  expect(checkModel(endpoint)).toMatchObject([{ check: 'models', subject: 'default/gpt', status: 'pass' }])
})

test('each secret, fallback and price that is not there is warned of, with where it was looked for', () => {
  const tried = ['store default/openai/key: no such secret']
  const failure = new Failure('secret.not_found', 'resolving secret openai', { evidence: { tried } }).toRecord()
  const dangling = [{ field: 'fallbacks', name: 'gone' }]
  expect(checkModel({ ...endpoint, secrets: [failure], dangling })).toMatchObject([
    { status: 'warn', code: 'secret.not_found', evidence: { tried }, remedy: failure.remediation },
    { status: 'warn', code: 'resource.not_found', evidence: { field: 'fallbacks', name: 'gone' } },
  ])
})
