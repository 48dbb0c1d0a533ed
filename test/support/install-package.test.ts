import { expect, test } from 'vitest'
import { installPackage, type Installer } from '../../scripts/install-package.ts'

/** An apt-get that fails so many times to install, and what was said and waited meanwhile. */
function scripted({ failures }: { failures: number }) {
  const calls: string[] = []
  const said: string[] = []
  const waits: number[] = []
  let left = failures
  const on: Installer = {
    hasLists: false,
    aptGet: (args) => {
      calls.push(args[0] ?? '')
      const isFailing = args[0] === 'install' && left-- > 0
      return { status: isFailing ? 100 : 0, stdout: '', stderr: isFailing ? 'E: mirror is away\n' : '' }
    },
    wait: (ms) => {
      waits.push(ms)
      return Promise.resolve()
    },
    say: (line) => void said.push(line),
  }
  return { on, calls, said, waits }
}

test('a package that installs at once is asked for once, and the next needs no new lists', async () => {
  const { on, calls, said } = scripted({ failures: 0 })
  expect(await installPackage('postgresql', { tries: 3 }, on)).toBe(true)
  expect(calls).toEqual(['update', 'install'])
  expect(said).toEqual([])
  expect(await installPackage('prometheus', { tries: 1 }, on)).toBe(true)
  expect(calls).toEqual(['update', 'install', 'install'])
})

test('a mirror that is away for a while is asked again, later and later, and each failure is said', async () => {
  const { on, waits, said } = scripted({ failures: 2 })
  expect(await installPackage('postgresql', { tries: 3 }, on)).toBe(true)
  expect(waits).toEqual([5_000, 20_000])
  expect(said.filter((line) => line.includes('mirror is away'))).toHaveLength(2)
  expect(said).toContain('postgresql was not installed; try 2 of 3 in 5 s.')
})

test('one that stays away is given up after the tries it was given', async () => {
  const { on, calls, waits } = scripted({ failures: 9 })
  expect(await installPackage('postgresql', { tries: 3 }, on)).toBe(false)
  expect(calls.filter((call) => call === 'install')).toHaveLength(3)
  expect(waits).toHaveLength(2)
})
