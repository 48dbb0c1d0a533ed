import { expect, test } from 'vitest'
import { Failure, failureOfProblems } from '../domain/failure.ts'
import { failureOfProblem, problemOf } from './problem.ts'

const at = { instance: '/v1/runs', requestId: 'req_1' }

test('a failure survives the way through a problem body', () => {
  const cause = new Failure('backend.lost', 'waiting for pid 7', { cause: new Error('gone') })
  const failure = new Failure('step.timed_out', 'running build', {
    cause,
    evidence: { tail: 'x' },
    remediation: 'Do so.',
  })
  const problem = problemOf(failure.toRecord(), at)
  expect(problem).toMatchObject({
    type: 'https://orrery.dev/failures#step.timed_out',
    status: 504,
    instance: '/v1/runs',
  })
  expect(failureOfProblem(JSON.parse(JSON.stringify(problem)))?.toRecord()).toEqual(failure.toRecord())
})

test('problems of a manifest survive too', () => {
  const failure = failureOfProblems(
    [{ code: 'workflow.cycle', path: 'spec', message: 'a cycle', line: 3 }],
    'compiling',
  )
  const problem = problemOf(failure.toRecord(), at)
  expect(problem.problems).toHaveLength(1)
  expect(failureOfProblem(problem)?.toRecord()).toEqual(failure.toRecord())
})

test('a code of a newer server keeps its meaning by status', () => {
  const failure = failureOfProblem({ code: 'new.code', detail: 'd', status: 404 })
  expect(failure).toMatchObject({ code: 'request.not_found', evidence: { code: 'new.code' } })
  expect(failureOfProblem({ error: 'x' })).toBeNull()
})
