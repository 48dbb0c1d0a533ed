import { describe, expect, test } from 'vitest'
import { demoWorld, everyCommand, WORDS } from './testing/every-command.ts'

const GIVEN = { server: 'https://there.example', token: 'orr_given', context: 'other', ca: '/srv/company-ca.pem' }
const FLAGS = Object.entries(GIVEN).flatMap(([name, value]) => [`--${name}`, value])

/** Commands with `--server` that ask no server by it. */
const KEEP_IT: Record<string, string> = {
  'context set': 'writes down how a server is reached',
  'mcp serve': 'goes on until its input ends: test/e2e/mcp.test.ts',
}
/** What else makes a command ask a server at all. */
const MORE: Record<string, string[]> = { explain: [`run/${WORDS['runs show']?.[0] ?? ''}`] }

const asking = everyCommand().filter(
  ({ path, command }) => !(path in KEEP_IT) && command.options.some((option) => option.long === '--server'),
)

describe('every command that asks a server', () => {
  test('has all four flags that say which, and as whom', () => {
    const lacking = asking.filter(({ command }) =>
      Object.keys(GIVEN).some((name) => !command.options.some((option) => option.long === `--${name}`)),
    )
    expect(asking.length).toBeGreaterThan(30)
    expect(lacking.map(({ path }) => path)).toEqual([])
  })

  test.for(asking.map(({ path }) => [path] as const))(
    'orrery %s takes the server, token, context and authority that are given',
    async ([path]) => {
      const cli = demoWorld()
      await cli.run(...path.split(' '), ...(WORDS[path] ?? MORE[path] ?? []), ...FLAGS)
      expect(cli.err).not.toContain('✗')
      const [asked] = [...cli.connects, ...cli.workers]
      expect(asked).toMatchObject(path === 'worker' ? { ...GIVEN, token: expect.anything() } : GIVEN)
      expect(cli.embedded).toEqual([])
    },
  )
})
