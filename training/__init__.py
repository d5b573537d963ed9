from model.proj import use_own_proj

use_own_proj()
