/**
 * What a token may do. `viewer` reads; `operator` also starts, cancels, retries and decides; `admin` also changes resources, secrets
 * and tokens. `worker` stands apart: it takes and reports work and nothing else.
 */
export const ROLES = ['viewer', 'operator', 'admin', 'worker'] as const
export type Role = (typeof ROLES)[number]

/** What an address asks for: nothing, any good token, the least role of people, or a worker. */
export type Access = 'none' | 'any' | Role

const RANK: Record<Exclude<Role, 'worker'>, number> = { viewer: 1, operator: 2, admin: 3 }

/** Whether a role is enough. */
export function isEnough(role: Role, needed: Access): boolean {
  if (needed === 'none' || needed === 'any') return true
  if (role === 'worker' || needed === 'worker') return role === needed
  return RANK[role] >= RANK[needed]
}
