import { expect, test } from 'vitest'
import { CliHarness } from '../testing/cli-harness.ts'

const item = (name: string, more: object = {}) => ({
  ...{ namespace: 'default', name, calls: 2, inputTokens: 30, outputTokens: 4, cachedInputTokens: 3 },
  ...{ costs: [{ currency: 'USD', amount: 1.5 }], unpriced: 0 },
  ...more,
})

test('costs are shown by what they are asked by, with what they are in money', async () => {
  const cli = new CliHarness()
  cli.client.costs = {
    by: 'workflow',
    items: [
      item('report'),
      item('nightly', {
        costs: [
          { currency: 'EUR', amount: 0.000123 },
          { currency: 'USD', amount: 0 },
        ],
        unpriced: 1,
      }),
      item('free', { costs: [] }),
      item('', { calls: 5 }),
    ],
    more: true,
  }
  const words = ['costs', '--by', 'workflow', '--since', '24h', '--until', '2030-01-01T00:00:00Z', '-n', 'default']
  expect(await cli.run(...words, '--limit', '3')).toBe(0)
  expect(cli.client.calls).toEqual([
    [
      'listCosts',
      {
        ...{ by: 'workflow', limit: 3, namespace: 'default' },
        ...{ since: expect.stringMatching(/Z$/), until: '2030-01-01T00:00:00.000Z' },
      },
    ],
  ])
  expect(cli.out).toMatch(/NAMESPACE +WORKFLOW +CALLS +INPUT +OUTPUT +COST/)
  expect(cli.out).toMatch(/default +report +2 +30 +4 +1\.50 USD/)
  expect(cli.out).toMatch(/nightly .* 0\.00012 EUR \+ 0\.00 USD/)
  expect(cli.out).toMatch(/free .* -/)
  expect(cli.out).toMatch(/default +- +5 /)
  expect(cli.err).toContain('More are not shown')
  expect(cli.err).toContain('The price of some calls is not known')
})

test('costs say when there are none, and what cannot be asked', async () => {
  const cli = new CliHarness()
  expect(await cli.run('costs')).toBe(0)
  expect(cli.err).toContain('No calls of models in this time.')
  expect(await cli.run('costs', '--by', 'colour')).toBe(2)
  expect(await cli.run('costs', '--limit', '0')).toBe(2)
  expect(await cli.run('costs', '-o', 'json')).toBe(0)
  expect(JSON.parse(cli.out)).toEqual({ by: 'agent', items: [], more: false })
})
